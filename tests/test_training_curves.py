"""The picture of a run's log: what is on it, and which logs it copes with."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

import dmsr_cli
from dmsr_cli.errors import DmsrError
from dmsr_cli.training.curves import curves_available, write_curves
from dmsr_cli.training.loop import train
from dmsr_cli.training.losses import Losses
from training_runs import EVERY_ITERATION, make_pictures, message, tiny_recipe

HEADER = ",".join(["iteration", "seconds", "rate", "patches_per_second", *Losses._fields, "psnr"])
CurvesOf = Callable[[str], Figure]


def line(iteration: int, psnr: str = "", loss: float = 0.01) -> str:
    """One line of a log; the losses are `loss`, twice `loss` and so on."""
    losses = [f"{loss * (number + 1):.6f}" for number in range(len(Losses._fields))]
    cells = [f"{iteration}", f"{iteration / 10}", "3.000e-04", f"{50 + iteration % 7}.0"]
    return ",".join([*cells, *losses, psnr])


def log_text(*lines: str) -> str:
    """As `csv.writer` ends lines."""
    return "".join(f"{text}\r\n" for text in (HEADER, *lines))


def long_log(iterations: int = 3000, best: int = 2840) -> str:
    noise = np.random.default_rng(0).lognormal(0, 0.3, iterations // 20)
    return log_text(
        *(
            line(
                iteration,
                f"{27.6 - abs(iteration - best) / 1000:.3f}" if iteration % 140 == 40 else "",
                0.01 * noise[iteration // 20 - 1],
            )
            for iteration in range(20, iterations + 1, 20)
        )
    )


@pytest.fixture
def curves_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CurvesOf:
    """`curves_of(text)` writes a log and its curves, and gives the figure that was saved."""

    def figure_of(text: str) -> Figure:
        saved: list[Figure] = []
        save = Figure.savefig

        def keep(figure: Figure, *arguments: object, **options: object) -> None:
            saved.append(figure)
            save(figure, *arguments, **options)

        log = tmp_path / "log.csv"
        log.write_bytes(text.encode())
        with monkeypatch.context() as patch, warnings.catch_warnings():
            # What matplotlib says of an empty range, and numpy of a division by zero.
            warnings.filterwarnings("error", message=".*(identical|encountered)")
            patch.setattr(Figure, "savefig", keep)
            write_curves(log, tmp_path / "curves.png")
        (figure,) = saved
        with PIL.Image.open(tmp_path / "curves.png") as picture:
            assert (picture.format, picture.size) == ("PNG", (1200, 800))
        return figure

    return figure_of


def panel(figure: Figure, title: str) -> Axes:
    (axes,) = [axes for axes in figure.axes if axes.get_title().startswith(title)]
    return axes


def texts_of(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def raw_and_smooth(axes: Axes) -> list[tuple[np.ndarray, np.ndarray]]:
    """The two lines of each curve, as arrays of y values."""
    lines = [np.asarray(drawn.get_ydata(), float) for drawn in axes.get_lines()]
    return list(zip(lines[::2], lines[1::2], strict=True))


def shown_texts(figure: Figure) -> Iterator[tuple[str, Bbox]]:
    """All text that is drawn, with its place in pixels."""
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    beyond = {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
        # A tick outside the panel is there, but not drawn.
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    for text in texts:
        if text.get_visible() and text not in beyond:
            yield text.get_text(), text.get_window_extent()


LOGS = {
    "long": long_log(),
    "best first": long_log(best=40),
    "best in the middle": long_log(best=1440),
    "one line": log_text(line(20)),
    "one line with PSNR": log_text(line(20, "25.123")),
    "two lines": log_text(line(20), line(40, "25.123")),
    "many iterations": log_text(line(900_000, "25.123"), line(2_000_000, "26.4")),
    "no line": log_text(),
}


@pytest.mark.parametrize("name", LOGS)
def test_texts_are_whole_and_apart(curves_of: CurvesOf, name: str) -> None:
    figure = curves_of(LOGS[name])
    texts = list(shown_texts(figure))
    assert texts
    for text, box in texts:
        assert box.x0 >= 2, text
        assert box.y0 >= 2, text
        assert box.x1 <= 1198, text
        assert box.y1 <= 798, text
    for (text, box), (other, other_box) in itertools.combinations(texts, 2):
        assert not box.overlaps(other_box), (text, other)
    for axes in figure.axes:
        for label in axes.texts:
            beside = axes.get_window_extent().padded(6)
            assert beside.x0 <= label.get_window_extent().x0, label
            assert beside.x1 >= label.get_window_extent().x1, label


class TestPanels:
    def test_losses_are_drawn_raw_and_smoothed_on_a_logarithmic_axis(
        self, curves_of: CurvesOf
    ) -> None:
        axes = panel(curves_of(long_log()), "Losses")
        assert axes.get_yscale() == "log"
        legend = axes.get_legend()
        assert legend is not None
        names = [text.get_text() for text in legend.get_texts()]
        assert names == [name.replace("_", " ") for name in Losses._fields]
        curves = raw_and_smooth(axes)
        assert len(curves) == len(Losses._fields)
        for number, (raw, smooth) in enumerate(curves):
            np.testing.assert_allclose(raw, curves[0][0] * (number + 1), rtol=1e-3)
            assert np.log(smooth).std() < 0.5 * np.log(raw).std()
            assert np.log(smooth).mean() == pytest.approx(np.log(raw).mean(), abs=0.05)
        assert axes.get_lines()[0].get_alpha() < 0.5

    def test_smoothing_follows_the_middle_of_the_logarithms(self, curves_of: CurvesOf) -> None:
        lines = [line(20 * number, loss=10.0 ** -(number % 2)) for number in range(1, 202)]
        _, smooth = raw_and_smooth(panel(curves_of(log_text(*lines)), "Losses"))[0]
        np.testing.assert_allclose(smooth[20:-20], 10**-0.5, rtol=0.15)

    def test_a_loss_that_is_left_out_is_not_drawn(self, curves_of: CurvesOf) -> None:
        cells = [line(20 * number).split(",") for number in range(1, 5)]
        for row in cells:
            row[HEADER.split(",").index(Losses._fields[1])] = "0.000000"
        axes = panel(curves_of(log_text(*map(",".join, cells))), "Losses")
        names = [drawn.get_label() for drawn in axes.get_lines()[1::2]]
        drawn_losses = [name for name in Losses._fields if name != Losses._fields[1]]
        assert names == [name.replace("_", " ") for name in drawn_losses]

    def test_one_zero_among_losses_is_a_gap(self, curves_of: CurvesOf) -> None:
        lines = [line(20), line(40, loss=0.0), line(60)]
        raw, smooth = raw_and_smooth(panel(curves_of(log_text(*lines)), "Losses"))[0]
        np.testing.assert_array_equal(np.isnan(raw), [False, True, False])
        assert np.isfinite(smooth[[0, 2]]).all()

    def test_best_validation_is_labelled(self, curves_of: CurvesOf) -> None:
        lines = [line(20, "20.5"), line(40), line(1060, "24.126"), line(1080), line(1100, "23.9")]
        axes = panel(curves_of(log_text(*lines)), "Validation")
        assert "best: 24.13 dB at 1,060" in texts_of(axes)
        points = axes.get_lines()[0]
        assert list(points.get_xdata()) == [20, 1060, 1100]
        assert points.get_marker() == "o"
        assert axes.get_ylabel() == "PSNR (dB)"

    def test_rate_and_speed(self, curves_of: CurvesOf) -> None:
        figure = curves_of(log_text(line(20), line(40)))
        assert list(panel(figure, "Learning rate").get_lines()[0].get_ydata()) == [3e-4, 3e-4]
        speed = panel(figure, "Speed")
        assert list(speed.get_lines()[0].get_ydata()) == [56, 55]
        assert speed.get_ylim()[0] == 0
        assert speed.get_ylabel() == "patches/s"
        assert [axes.get_xlabel() for axes in figure.axes] == ["iteration"] * 4

    def test_the_title_tells_how_far_and_how_long(self, curves_of: CurvesOf) -> None:
        def title(seconds: str) -> str:
            cells = line(3000).split(",")
            cells[1] = seconds
            return curves_of(log_text(",".join(cells))).get_suptitle()

        assert title("45.2") == "Training: 3,000 iterations in 45 s"
        assert title("351.0") == "Training: 3,000 iterations in 6 min"
        assert title("7260.0") == "Training: 3,000 iterations in 2 h 1 min"


class TestLogs:
    def iterations(self, figure: Figure) -> list[float]:
        return list(panel(figure, "Learning rate").get_lines()[0].get_xdata())

    def test_one_line_is_a_point(self, curves_of: CurvesOf) -> None:
        figure = curves_of(log_text(line(20)))
        assert self.iterations(figure) == [20]
        for title in ("Losses", "Learning rate", "Speed"):
            assert panel(figure, title).get_lines()[-1].get_marker() == "o"

    def test_no_validation(self, curves_of: CurvesOf) -> None:
        axes = panel(curves_of(log_text(line(20), line(40))), "Validation")
        assert texts_of(axes) == ["no validation yet"]

    def test_no_line_yet(self, curves_of: CurvesOf) -> None:
        figure = curves_of(log_text())
        assert figure.get_suptitle() == "Training: no report yet"
        assert not figure.axes

    def test_a_validation_before_the_first_step(self, curves_of: CurvesOf) -> None:
        figure = curves_of(log_text(line(0, "20.0")))
        assert "best: 20.00 dB at 0" in texts_of(panel(figure, "Validation"))

    @pytest.mark.parametrize("length", range(1, len(line(60, "27.412"))))
    def test_a_line_that_was_cut_off_is_left_out(self, tmp_path: Path, length: int) -> None:
        from dmsr_cli.training import curves

        log = tmp_path / "log.csv"
        log.write_bytes((log_text(line(20), line(40)) + line(60, "27.412")[:length]).encode())
        assert list(curves._read_log(log)["iteration"]) == [20, 40]

    @pytest.mark.parametrize("length", range(1, len(line(60, "27.412"))))
    def test_a_run_that_goes_on_after_a_cut_line(self, tmp_path: Path, length: int) -> None:
        from dmsr_cli.training import curves

        log = tmp_path / "log.csv"
        before = log_text(line(20), line(40)) + line(60, "27.412")[:length]
        log.write_bytes(f"{before}{line(60)}\r\n{line(80)}\r\n".encode())
        iterations = list(curves._read_log(log)["iteration"])
        assert iterations in ([20, 40, 80], [20, 40, 60, 80])

    def test_a_resumed_run_replaces_what_it_went_through_again(self, curves_of: CurvesOf) -> None:
        first = [line(20), line(40, "30.0"), line(60, "31.0"), line(80, "32.0")]
        second = [line(53, "29.0", loss=0.5), line(60, loss=0.5), line(80, loss=0.5), line(100)]
        figure = curves_of(log_text(*first, *second))
        assert self.iterations(figure) == [20, 40, 53, 60, 80, 100]
        raw, _ = raw_and_smooth(panel(figure, "Losses"))[0]
        np.testing.assert_allclose(raw, [0.01, 0.01, 0.5, 0.5, 0.5, 0.01])
        assert "best: 30.00 dB at 40" in texts_of(panel(figure, "Validation"))

    def test_of_two_lines_for_one_iteration_the_second_counts(self, curves_of: CurvesOf) -> None:
        figure = curves_of(log_text(line(20), line(40), line(60), line(40, loss=0.5)))
        assert self.iterations(figure) == [20, 40]
        raw, _ = raw_and_smooth(panel(figure, "Losses"))[0]
        np.testing.assert_allclose(raw, [0.01, 0.5])

    def test_other_columns_and_another_order(self, curves_of: CurvesOf) -> None:
        rows = [["memory", *text.split(",")[::-1]] for text in (HEADER, line(20), line(40))]
        rows[1][0] = rows[2][0] = "12.5"
        figure = curves_of("".join(f"{','.join(row)}\n" for row in rows))
        assert self.iterations(figure) == [20, 40]

    def test_a_long_run_is_drawn_to_its_end(self, curves_of: CurvesOf) -> None:
        figure = curves_of(log_text(*(line(20 * number) for number in range(1, 9001))))
        raw, smooth = panel(figure, "Speed").get_lines()
        assert len(raw.get_xdata()) < 9000
        assert list(smooth.get_xdata())[-1] == 180_000

    def test_the_log_of_a_run(self, tmp_path: Path) -> None:
        data = make_pictures(tmp_path / "data")
        recipe = tiny_recipe(iterations=2, validate_every=EVERY_ITERATION)
        train(recipe, [data], tmp_path / "run", validation=data)
        write_curves(tmp_path / "run" / "log.csv", tmp_path / "curves.png")
        assert (tmp_path / "curves.png").stat().st_size > 10_000


class TestRefusals:
    def refusal(self, log: Path, picture: Path) -> str:
        with pytest.raises(DmsrError) as error:
            write_curves(log, picture)
        return message(error)

    def test_missing_matplotlib(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        log = tmp_path / "log.csv"
        log.write_text(log_text(line(20)))
        assert curves_available()
        for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        assert not curves_available()
        text = self.refusal(log, tmp_path / "curves.png")
        assert 'pip install "dmsr-cli[plots]"' in text
        assert "curves.png" in text
        assert not (tmp_path / "curves.png").exists()

    def test_missing_log(self, tmp_path: Path) -> None:
        text = self.refusal(tmp_path / "other.csv", tmp_path / "curves.png")
        assert "other.csv" in text
        assert "No such file" in text

    @pytest.mark.parametrize("content", ["", "iteration,seconds", "a,b\n1,2\n", "\0\xff\n"])
    def test_something_else(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "other.csv").write_bytes(content.encode("latin-1"))
        text = self.refusal(tmp_path / "other.csv", tmp_path / "curves.png")
        assert "other.csv is not the log of a run" in text

    def test_a_lost_loss_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_text(log_text().replace(Losses._fields[2], "other"))
        text = self.refusal(tmp_path / "log.csv", tmp_path / "curves.png")
        assert repr(Losses._fields[2]) in text

    def test_missing_folder(self, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_text(log_text(line(20)))
        text = self.refusal(tmp_path / "log.csv", tmp_path / "nowhere" / "curves.png")
        assert "nowhere" in text


def test_matplotlib_is_loaded_late_and_pyplot_never(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(long_log())
    program = """
import sys
from pathlib import Path
from dmsr_cli.training import curves
assert curves.curves_available()
assert "matplotlib" not in sys.modules
curves.write_curves(Path("log.csv"), Path("curves.png"))
assert "matplotlib.figure" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
"""
    source = str(Path(dmsr_cli.__file__).parent.parent)
    subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": source, "MPLBACKEND": "tkagg", "DISPLAY": ""},
    )
    assert (tmp_path / "curves.png").is_file()
