"""The table of docs/formats.md says what round trips give."""

from __future__ import annotations

import pytest

from round_trips import PAGE, table, with_table


def test_the_page_says_what_round_trips_give() -> None:
    pytest.importorskip("pillow_heif", reason="a row of the table needs the extra `heif`")
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page, table()), "run: python tests/round_trips.py"
