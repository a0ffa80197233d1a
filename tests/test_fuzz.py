"""Some hundred damaged pictures through the real command; `make fuzz` tries thousands."""

import PIL.Image

from dmsr_cli.images import FORMATS, DirectDecoder
from dmsr_cli.weights import save_weights
from fuzz import Findings, run, write_mutants
from fuzzing import mutants, samples
from pictures import save, smooth

EACH = 12


def test_damaged_pictures_harm_nothing(tmp_path, tiny_model):
    folder, model = tmp_path / "mutants", tmp_path / "tiny.safetensors"
    folder.mkdir()
    save_weights(tiny_model(2), model)
    write_mutants(folder, EACH, seed=1)
    findings = Findings()
    run(folder, model, findings, "--max-pixels", "1M")
    # How long a picture may take is for `make fuzz`, on a machine with nothing else to do.
    assert [problem for problem in findings.problems if "took " not in problem] == []
    assert set(findings.outcomes) == set(samples())
    assert all(sum(counts.values()) == EACH for counts in findings.outcomes.values())
    restored = sum(counts["restored"] for counts in findings.outcomes.values())
    assert 40 < restored < EACH * len(samples()) - 40


def test_the_samples_are_sound_and_of_every_format(tmp_path):
    found = set()
    for name, content in samples().items():
        path = tmp_path / name
        path.write_bytes(content)
        decoder = DirectDecoder()
        sequence = decoder.open_sequence(path)
        assert (sequence is not None) == name.startswith(("moving", "pages"))
        if sequence is not None:
            with sequence:
                assert len(list(sequence.frames())) == 3
        found.add(decoder.read_image(path).format)
    assert found == set(FORMATS)


def test_mutants_are_the_same_in_every_run():
    content, other = samples()["rgb.png"], samples()["baseline.jpg"]
    first, again = (mutants(content, other, 30, seed=3) for _ in range(2))
    assert first == again
    assert first != mutants(content, other, 30, seed=4)
    assert len(set(first)) > 25
    assert content not in first


def test_the_check_finds_what_is_wrong(tmp_path, tiny_model):
    folder, model = tmp_path / "mutants", tmp_path / "tiny.safetensors"
    folder.mkdir()
    save_weights(tiny_model(2), model)
    save(folder / "png_sound_0.png", (smooth() * 255).astype("uint8"))
    (folder / "png_bad_0.png").write_bytes(b"")
    results = tmp_path / "mutants_results"
    results.mkdir()
    results.joinpath(".dmsr-0.tmp.png").touch()
    (folder / "no_picture_0.txt").touch()
    findings = Findings()
    run(folder, model, findings)
    assert findings.problems == [
        "the lines of JSON are not one for each input",
        "left behind: .dmsr-0.tmp.png",
    ]
    assert findings.outcomes["sound.png"]["restored"] == findings.outcomes["bad.png"]["empty"] == 1
    assert "| sound.png | 0 | 1 |" in findings.table()
    PIL.Image.open(results / "png_sound_0_x2.png").load()
