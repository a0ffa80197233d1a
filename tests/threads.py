"""Which threads of the package run, beside those of whatever runs the tests."""

from __future__ import annotations

import threading


def threads_of_ours() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("dmsr-")]
