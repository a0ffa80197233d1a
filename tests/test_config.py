"""Settings from mappings and TOML files: what is taken, what is refused, and how that is said."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dmsr_cli.config import DMSRConfig, from_mapping, read_toml
from dmsr_cli.errors import DmsrError, SettingsError


@dataclass(frozen=True)
class Example:
    number: int
    share: float = 0.5
    text: str = "a"
    switch: bool = False
    minutes: float | None = None
    bounds: tuple[float, ...] = (0.0, 1.0)


def refused(values: dict[str, Any], cls: type = Example) -> str:
    """The message with which `values` are refused: one line that begins with their origin."""
    with pytest.raises(SettingsError) as error:
        from_mapping(cls, values, "some.toml [table]")
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("some.toml [table]: ")
    return text


class TestDMSRConfig:
    def test_defaults_are_the_papers(self) -> None:
        assert dataclasses.asdict(DMSRConfig()) == {
            "scale": 4,
            "channels": 64,
            "groups": 5,
            "blocks": 20,
            "reduction": 16,
            "upsampled_channels": 64,
            "extractor_channels": 64,
            "extractor_blocks": 2,
            "blur_channels": 128,
            "kernel_size": 15,
            "deblur_size": 15,
            "embedding": 15,
        }

    @pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(DMSRConfig)])
    @pytest.mark.parametrize("value", [0, -1, 4097, 2.0, True, None, "3"])
    def test_every_field_is_a_bounded_whole_number(self, name: str, value: Any) -> None:
        with pytest.raises(SettingsError, match=f"{name} must be a whole number") as error:
            DMSRConfig(**{name: value})
        assert repr(value) in str(error.value)

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({"scale": 9}, "scale must be at most 8, not 9"),
            ({"kernel_size": 14}, "kernel_size must be odd and at most 63, not 14"),
            ({"kernel_size": 65}, "kernel_size must be odd and at most 63, not 65"),
            ({"deblur_size": 8}, "deblur_size must be odd and at most 63, not 8"),
            ({"channels": 8}, r"reduction \(16\) must not exceed channels \(8\)"),
        ],
    )
    def test_impossible_combinations(self, values: dict[str, int], expected: str) -> None:
        with pytest.raises(SettingsError, match=expected):
            DMSRConfig(**values)

    def test_limits_are_allowed(self) -> None:
        config = DMSRConfig(scale=8, kernel_size=63, deblur_size=1, channels=4096, reduction=4096)
        assert config.deblur_size == 1

    def test_is_frozen(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            DMSRConfig().scale = 2  # type: ignore[misc] # that is the point


class TestFromMapping:
    def test_all_kinds(self) -> None:
        values = {
            "number": 3,
            "share": 0.25,
            "text": "b",
            "switch": True,
            "minutes": 2.5,
            "bounds": [1.5, 2.5, 3.5],
        }
        made = from_mapping(Example, values, "here")
        assert made == Example(3, 0.25, "b", True, 2.5, (1.5, 2.5, 3.5))
        assert type(made.bounds) is tuple

    def test_defaults_stay(self) -> None:
        assert from_mapping(Example, {"number": 3}, "here") == Example(3)

    def test_none_where_it_is_allowed(self) -> None:
        assert from_mapping(Example, {"number": 3, "minutes": None}, "here").minutes is None
        assert "share must be of type float, not None" in refused({"number": 3, "share": None})

    def test_whole_number_stands_for_a_float(self) -> None:
        values = {"number": 3, "share": 1, "minutes": 2, "bounds": (0, 2)}
        made = from_mapping(Example, values, "here")
        assert made == Example(3, 1.0, minutes=2.0, bounds=(0.0, 2.0))
        for value in (made.share, made.minutes, *made.bounds):
            assert type(value) is float

    @pytest.mark.parametrize(
        ("name", "value", "kind"),
        [
            ("number", True, "int"),
            ("number", 3.0, "int"),
            ("number", "3", "int"),
            ("number", {"a": 1}, "int"),
            ("share", False, "float"),
            ("share", "0.5", "float"),
            ("text", 1, "str"),
            ("switch", 1, "bool"),
            ("minutes", True, "float or NoneType"),
            ("minutes", "long", "float or NoneType"),
            ("bounds", 1.0, "tuple"),
            ("bounds", [1.0, "2"], "float"),
            ("bounds", [1.0, True], "float"),
        ],
    )
    def test_wrong_type(self, name: str, value: Any, kind: str) -> None:
        text = refused({"number": 3} | {name: value})
        assert f"{name} must be of type {kind}" in text
        assert "not " in text

    def test_unknown_key_names_the_known(self) -> None:
        text = refused({"number": 3, "nubmer\n": 4})
        assert r"unknown setting 'nubmer\n'" in text
        assert "known are bounds, minutes, number, share, switch, text" in text

    def test_missing_field(self) -> None:
        assert "number" in refused({})

    def test_refusal_of_the_class_names_the_origin(self) -> None:
        assert "scale must be at most 8" in refused({"scale": 9}, DMSRConfig)

    def test_round_trip(self) -> None:
        config = DMSRConfig(scale=3, blocks=2)
        assert from_mapping(DMSRConfig, dataclasses.asdict(config), "here") == config


class TestReadToml:
    def test_content(self, tmp_path: Path) -> None:
        path = tmp_path / "a.toml"
        path.write_text('[table]\nname = "Größe"\nlist = [1, 2.5]\n', encoding="utf-8")
        assert read_toml(path) == {"table": {"name": "Größe", "list": [1, 2.5]}}

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (None, "cannot read .*No such file"),
            (b"a = ", "not valid TOML"),
            (b"a = 1\na = 2\n", "not valid TOML"),
            (b"hello\nworld\n", "not valid TOML"),
            ("a = 'Größe'".encode("latin-1"), "not valid TOML"),
            (b"\x89PNG\r\n\x1a\n\x00", "not valid TOML"),
        ],
    )
    def test_refused(self, tmp_path: Path, content: bytes | None, expected: str) -> None:
        path = tmp_path / "broken.toml"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(SettingsError, match=expected) as error:
            read_toml(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="cannot read"):
            read_toml(tmp_path)


def test_wrong_settings_are_wrong_usage() -> None:
    assert SettingsError("").exit_status == 2
    assert DmsrError("").exit_status == 1
