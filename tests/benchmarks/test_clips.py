"""Windows of clips, their measures and the table: on a small clip that is made here."""

from __future__ import annotations

import csv
import re
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks.clips import drawings, features, measures, rows, sequences, table
from benchmarks.clips.__main__ import main
from benchmarks.clips.cases import TRUTH, Case, Frames, Made, read, write
from benchmarks.clips.table import Measured
from benchmarks.clips.windows import Clip, frames_of, read_all, read_windows, windows
from mpd.progress import Pictures


def frame(number: int) -> Pictures:
    """A square that goes one pixel a frame."""
    picture = np.full((64, 96, 3), 60, np.uint8)
    picture[20:40, 8 + number : 28 + number] = (200, 80, 40)
    return picture


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips") / "square"
    folder.mkdir()
    for number in range(40):
        cv2.imwrite(str(folder / f"{number:04d}.png"), frame(number)[..., ::-1])
    return folder


class TestWindows:
    def test_a_folder_of_frames_is_a_clip(self, clip: Path) -> None:
        np.testing.assert_array_equal(frames_of(clip)[7], frame(7))

    def test_frames_go_by_their_number(self, tmp_path: Path) -> None:
        for number in range(12):
            cv2.imwrite(str(tmp_path / f"take2_{number}.png"), frame(number)[..., ::-1])
        (tmp_path / "notes.txt").touch()
        for number, found in enumerate(frames_of(tmp_path)):
            np.testing.assert_array_equal(found, frame(number))

    @pytest.mark.parametrize(
        ("names", "said"),
        [
            (("0.png", "cover.png"), r"cover\.png: no number in its name: number every frame"),
            (("1.jpg", "01.png"), r"1\.jpg and 01\.png: both are frame 1, .*: rename one"),
        ],
    )
    def test_frames_that_have_no_order_are_named(self, names: tuple[str, ...], said: str, tmp_path: Path) -> None:
        for name in names:
            cv2.imwrite(str(tmp_path / name), frame(0))
        with pytest.raises(ValueError, match=said):
            frames_of(tmp_path)

    def test_two_clips_of_one_name_are_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        paths = []
        for number, (clip, start) in enumerate([("one/clip.mp4", 0), ("two/clip.avi", 9), ("one/clip.mp4", 5)]):
            paths.append(tmp_path / f"{number}.csv")
            paths[-1].write_text(f"clip,start,apart\n{clip},{start},4\n")
        assert [one.start for one in read_all([paths[0], paths[2]])] == [0, 5]
        said = re.escape(f"{tmp_path / 'one/clip.mp4'} and {tmp_path / 'two/clip.avi'}: two clips of one name")
        with pytest.raises(ValueError, match=f"{said}.*: rename one"):
            read_all(paths)
        measured, sheet = tmp_path / "m.jsonl", tmp_path / "s.png"
        table.append(measured, Measured("k", "clip-00000-4", "dissolve", 20, 0.5, 0))
        one, two = map(str, paths[:2])
        for command in (
            ["run", one, two, "--rows", "hold", "-o", str(tmp_path / "n.jsonl")],
            ["sheet", str(measured), one, two, "--row", "dissolve", "-o", str(sheet)],
            ["paper", "--table", one, two, "--rows", "hold"],
        ):
            assert main(command) == 2, command
            assert "two clips of one name" in capsys.readouterr().err, command

    def test_a_video_is_a_clip(self, clip: Path, tmp_path: Path) -> None:
        writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 7, (96, 64))
        for number in range(5):
            writer.write(frame(number)[..., ::-1])
        writer.release()
        found = frames_of(tmp_path / "a.avi")
        assert len(found) == 5
        assert measures.psnr(found[3], frame(3)) > 25

    def test_tuning_and_judging_share_no_frame_and_none_goes_over_a_cut(self, clip: Path) -> None:
        cut = Clip(clip, (20,))
        seen = {
            part: {at for one in windows(cut, 4, part, 1) for at in range(one.start, one.start + 5)}
            for part in ("tuning", "judging")
        }
        assert seen["tuning"] & seen["judging"] == set()
        assert all(one.start + 4 < 20 or one.start >= 20 for one in windows(cut, 4, "judging", 1))
        assert seen["judging"] >= {6, 19, 26, 38}

    def test_hidden_frames_lie_between_the_ends(self, clip: Path) -> None:
        (window,) = [one for one in windows(Clip(clip), 12, "judging", 1) if one.start == 14]
        assert window.hidden() == [2, 4, 6, 8, 10]
        np.testing.assert_array_equal(window.ends()[1], frame(26))
        np.testing.assert_array_equal(window.truth()[0], frame(16))

    def test_a_folder_without_frames_is_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["cut", str(tmp_path), "--apart", "4", "-o", str(tmp_path / "w.csv")]) == 2
        assert "no frames in it" in capsys.readouterr().err


class TestMeasures:
    def test_the_truth_is_the_best(self) -> None:
        assert measures.psnr(frame(3), frame(3)) > 100
        assert measures.ssim(frame(3), frame(3)) == pytest.approx(1)
        assert measures.psnr(frame(3), frame(4)) > measures.psnr(frame(3), frame(9))
        assert measures.ssim(frame(3), frame(4)) > measures.ssim(frame(3), frame(9))

    def test_psnr_is_that_of_scikit_image(self) -> None:
        from skimage.metrics import peak_signal_noise_ratio

        assert measures.psnr(frame(3), frame(9)) == pytest.approx(peak_signal_noise_ratio(frame(9), frame(3)))

    def test_only_what_stands_still_can_be_torn(self) -> None:
        truth = frame(4)
        assert measures.disturbed(truth, truth, frame(0), frame(8)) == 0
        torn = truth.copy()
        torn[50:60, 50:60] = 0
        standing = 64 * 96 - 20 * (20 + 8)  # all but where the square has been
        assert measures.disturbed(torn, truth, frame(0), frame(8)) == pytest.approx(100 / standing, rel=0.05)
        moved = truth.copy()
        moved[20:40, 9:14] = 0
        assert measures.disturbed(moved, truth, frame(0), frame(8)) == 0


def feature_distance(made: Pictures, truth: Pictures) -> float:
    return features.distance(features.look(made), features.look(truth))


class TestFeatures:
    def test_the_distance_grows_with_what_is_seen(self) -> None:
        assert feature_distance(frame(3), frame(3)) == 0
        assert 0 < feature_distance(frame(3), frame(4)) < feature_distance(frame(3), frame(20))

    def test_the_distance_is_no_lower_for_an_empty_picture(self) -> None:
        assert feature_distance(np.full_like(frame(3), 60), frame(3)) > feature_distance(frame(4), frame(3))

    def test_frechet_is_what_its_definition_says(self) -> None:
        from scipy.linalg import sqrtm

        dice = np.random.default_rng(0)
        one, other = dice.normal(0, 1, (200, 6)), dice.normal(0.5, 2, (300, 6))
        parts = [(values.mean(0), np.cov(values, rowvar=False)) for values in (one, other)]
        (mean, covariance), (mean_2, covariance_2) = parts
        root = sqrtm(covariance @ covariance_2).real
        literal = ((mean - mean_2) ** 2).sum() + np.trace(covariance + covariance_2 - 2 * root)
        assert features.frechet(one, other) == pytest.approx(literal)
        assert features.frechet(one, one) == pytest.approx(0, abs=1e-9)

    def test_sets_of_frames_are_told_apart(self) -> None:
        early, late, again = (
            np.array([features.describe(features.look(frame(number))) for number in range(first, first + 8)])
            for first in (0, 20, 1)
        )
        assert features.frechet(early, again) < features.frechet(early, late)


class TestSequences:
    TRUTH = tuple(frame(number) for number in range(0, 14, 2))

    def test_vmaf_is_highest_for_the_truth(self) -> None:
        blurred = [np.asarray(cv2.GaussianBlur(one, (0, 0), 3), np.uint8) for one in self.TRUTH]
        empty = [np.full_like(one, 60) for one in self.TRUTH]
        values = [sequences.vmaf(made, self.TRUTH) for made in (self.TRUTH, blurred, empty)]
        assert values[0] > 90
        assert values[0] > values[1] > values[2]

    def test_what_moves_as_the_truth_warps_best(self) -> None:
        motion = sequences.TrueMotion(self.TRUTH)
        backwards = self.TRUTH[::-1]
        assert motion.warping_error(self.TRUTH) < motion.warping_error(backwards)
        assert motion.warping_error(self.TRUTH) < motion.warping_error([frame(0)] * 3 + [frame(12)] * 4)
        assert motion.warping_error([np.full_like(frame(0), 60)] * 7) == 0, "an empty picture is perfect by it"

    def test_a_jump_is_not_smooth(self) -> None:
        held = [frame(0)] * 3 + [frame(12)] * 4
        assert sequences.smoothness(self.TRUTH) > sequences.smoothness(held)
        assert sequences.smoothness([frame(0)] * 7) > 0.99, "nor is a still one told from a good one"


class TestRows:
    TIMES = (0.25, 0.5, 0.75)

    def case(self) -> Case:
        return Case("k", "w", frame(0), frame(8), self.TIMES, [frame(number) for number in (2, 4, 6)], 8)

    @pytest.mark.parametrize(
        "name",
        [pytest.param(one, marks=pytest.mark.needs("ffmpeg")) if one == "minterpolate" else one for one in rows.ROWS],
    )
    def test_each_makes_a_frame_for_each_time(self, name: str) -> None:
        made = rows.ROWS[name](self.case()).frames
        assert [(one.shape, one.dtype) for one in made] == [((64, 96, 3), np.uint8)] * 3

    @pytest.mark.parametrize("name", [pytest.param("minterpolate", marks=pytest.mark.needs("ffmpeg")), "flow", "rife"])
    def test_those_that_move_are_nearer_than_the_dissolve_and_in_order(self, name: str) -> None:
        made = rows.ROWS[name](self.case()).frames
        plain = rows.dissolve(frame(0), frame(8), self.TIMES)
        for one, other, number in zip(made, plain, (2, 4, 6), strict=True):
            assert measures.psnr(one, frame(number)) > measures.psnr(other, frame(number))
            if number != 4:
                assert measures.psnr(one, frame(number)) > measures.psnr(one, frame(8 - number))

    def test_a_base_models_methods_are_rows(self) -> None:
        import mpd
        from mpd import sprites

        model = mpd.load(sprites.PATH)
        assert "mpd" in rows.sampled_methods(model)
        assert "flow" not in rows.sampled_methods(model)
        assert "svd" not in rows.sampled_methods(model), "it knows no end"
        (row,) = rows.sampled(model, ["mpd"]).values()
        start, end = (
            np.asarray(Image.open(f"examples/keyframes/arrow-{name}.png").convert("RGB")) for name in ("start", "end")
        )
        made = row(Case("k", "w", start, end, (1 / 3, 2 / 3), [start, end], 6))
        assert [one.shape for one in made.frames] == [start.shape] * 2
        assert made.ends is not None
        assert measures.psnr(made.ends[0], start) > measures.psnr(made.ends[0], end)
        assert measures.psnr(made.ends[1], end) > measures.psnr(made.ends[1], start)

    def test_film_is_a_row(self, tmp_path: Path) -> None:
        import torch

        class Mean(torch.nn.Module):
            def forward(self, x0: torch.Tensor, x1: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
                share = t.reshape(-1, 1, 1, 1)
                return x0 * (1 - share) + x1 * share

        with warnings.catch_warnings(action="ignore"):  # of TorchScript's age
            torch.jit.script(Mean()).save(str(tmp_path / "film.pt"))  # type: ignore[no-untyped-call]
        made = rows.by_film(tmp_path / "film.pt")["film"](self.case())
        for one, other in zip(made.frames, rows.dissolve(frame(0), frame(8), self.TIMES), strict=True):
            assert measures.psnr(one, other) > 45


class TestFrames:
    CASE = Case("k", "w", frame(0), frame(3), (1 / 3, 2 / 3), [frame(1), frame(2)], 3)

    def test_frames_are_read_as_they_were_written(self, tmp_path: Path) -> None:
        for made in (Made([frame(7), frame(8)]), Made([frame(7), frame(8)], (frame(6), frame(9)))):
            write(tmp_path / str(made.ends is None), self.CASE, made)
            found = read(tmp_path / str(made.ends is None), self.CASE)
            assert found is not None
            np.testing.assert_array_equal(found.frames, made.frames)
            assert (found.ends is None) == (made.ends is None)
            np.testing.assert_array_equal(found.ends or (), made.ends or ())

    def test_a_window_that_lies_not_whole_elsewhere_is_none_of_the_row(self, tmp_path: Path) -> None:
        write(tmp_path / "theirs", self.CASE, Made([frame(1)]))
        assert Frames({}, None, [tmp_path / "theirs"]).of(self.CASE, "theirs") is None

    def test_frames_of_another_size_are_named(self, tmp_path: Path) -> None:
        write(tmp_path / "theirs", self.CASE, Made([frame(1)[:32], frame(2)[:32]]))
        with pytest.raises(ValueError, match=r"1\.png: 96×32, where the truth is 96×64"):
            Frames({}, None, [tmp_path / "theirs"]).of(self.CASE, "theirs")

    def test_the_truth_is_a_row(self) -> None:
        made = Frames({}, None).of(self.CASE, TRUTH)
        assert made is not None
        np.testing.assert_array_equal(made.frames, self.CASE.truth)

    def test_a_row_that_is_not_there_is_named(self) -> None:
        with pytest.raises(KeyError, match="no row 'mine': there are truth"):
            Frames({}, None).of(self.CASE, "mine")


class TestTable:
    def test_an_interval_holds_the_mean_and_narrows(self) -> None:
        few, many = ([0.0, 1.0] * count for count in (8, 200))
        wide, narrow = table.interval([few]), table.interval([many])
        assert wide[0] == narrow[0] == 0.5
        assert wide[1] <= 0.5 <= wide[2]
        noise = np.random.default_rng(1).normal(1, 1, 400)
        mean, low, high = table.interval([list(noise)])
        assert high - low == pytest.approx(4 * 1 / 20, rel=0.3), "as of a mean of 400"
        assert low < mean < high

    def test_an_interval_says_how_clips_vary_within_and_not_how_they_differ(self) -> None:
        assert table.interval([[0.0] * 7, [10.0] * 3]) == (3.0, 3.0, 3.0), "each is drawn as often as it has windows"
        assert table.interval([[0.0] * 6 + [10.0] * 6])[2] > 6, "as one clip's it is not known"
        mean, low, high = table.interval([[0.0, 1.0, 2.0, 3.0], [5.0]])
        assert mean == 11 / 5
        assert 1 < low < mean < high < 3.4, "a clip of four windows varies, and one of a single window does not"

    def test_neighbours_are_drawn_together(self) -> None:
        apart = table.interval([[0.0, 1.0] * 40])
        together = table.interval([([0.0] * 4 + [1.0] * 4) * 10])
        assert together[2] - together[1] > 2 * (apart[2] - apart[1])

    def test_rows_are_paired_by_window(self) -> None:
        def one(window: str, row: str, psnr: float) -> Measured:
            return Measured("k", f"w-{window}-1", row, psnr, 0.5, 0.01, 2.0, 0.9)

        lines = table.table(
            [
                one("a", "dissolve", 20), one("b", "dissolve", 30), one("c", "dissolve", 1),
                one("a", "mine", 21), one("b", "mine", 29.5),
                one("a", "minterpolate", 20.5), one("b", "minterpolate", 29),
            ]
        )  # fmt: skip
        assert "**k**: 2 windows that every row has, of 3: `mine` lacks 1, `minterpolate` lacks 1\n" in lines
        mine, film = [line for line in lines.splitlines() if line.startswith("| `mine`")]
        assert film == "| `mine` |  |  |  | exact | 2.00 | 0.9000 |"
        assert "| 25.25 | +0.25" in mine
        assert "| 50% |" in mine, "below the dissolve in one of two"
        assert "| 100% |" in mine, "before the rival in both"

    def test_a_clips_windows_are_drawn_together_in_the_table(self) -> None:
        measured = [
            Measured("k", f"{clip}-{number:05d}-6", row, 20 + gain * (row == "mine"), 0.5, 0.01)
            for clip, gain in (("box", 1), ("cup", 4)) for number in range(6) for row in ("dissolve", "mine")
        ]  # fmt: skip
        assert "| `mine` | 22.50 | +2.50 [+2.50, +2.50] |" in table.table(measured)

    def test_rows_without_a_window_in_common_are_named(self) -> None:
        measured = [Measured("k", f"w-{row}-1", row, 20, 0.5, 0.01) for row in ("dissolve", "mine")]
        said = r"k: none of 2 windows was measured of every row \('dissolve' has 1, 'mine' has 1\): `run` all rows"
        with pytest.raises(ValueError, match=said):
            table.table(measured)

    def test_other_rows_to_compare_with_are_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        measured = tmp_path / "m.jsonl"
        for row, psnr in (("hold", 20), ("flow", 23), ("mine", 22)):
            for window in ("box-00000-6", "cup-00000-6"):
                table.append(measured, Measured("k", window, row, psnr, 0.5, 0.01))
        assert main(["table", str(measured), "--against", "hold", "--rival", "flow"]) == 0
        told = capsys.readouterr().out
        assert "| | PSNR | gain over hold | below it | over flow | wins |" in told
        assert "| `mine` | 22.00 | +2.00 [+2.00, +2.00] | 0% | -1.00 [-1.00, -1.00] | 0% |" in told
        assert "| gain over hold | box (1) | cup (1) |" in told
        assert main(["table", str(measured), "--rival", "theirs"]) == 2
        assert "--rival theirs: no measured lines of it: there are those of hold, flow, mine" in capsys.readouterr().err

    def test_gains_are_told_by_clip(self) -> None:
        def one(window: str, row: str, psnr: float) -> Measured:
            return Measured("k", window, row, psnr, 0.5, 0.01)

        lines = table.table(
            [
                one("box-1-00010-24", "dissolve", 20), one("box-1-00020-24", "dissolve", 22),
                one("box-1-00010-24", "mine", 21), one("box-1-00020-24", "mine", 25),
                one("cup-00010-24", "dissolve", 20), one("cup-00010-24", "mine", 19),
            ]
        ).splitlines()  # fmt: skip
        assert "| gain over dissolve | box-1 (2) | cup (1) |" in lines
        assert "| `mine` | +2.00 | -1.00 |" in lines


class TestCommand:
    def test_from_a_clip_to_a_table_and_a_sheet(
        self, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        cut, measured = tmp_path / "w.csv", tmp_path / "m.jsonl"
        assert main(["cut", str(clip), "--apart", "6", "--stride", "10", "-o", str(cut)]) == 0
        with cut.open() as file:
            assert [row["start"] for row in csv.DictReader(file)] == ["12", "22", "32"]
        assert [one.start for one in read_windows(cut)] == [12, 22, 32]
        rows_asked = ["--rows", "truth,dissolve,flow"]
        command = ["run", str(cut), "--kind", "six", "--drawings", "1", *rows_asked, "-o", str(measured)]
        assert main(command) == 0
        lines = measured.read_text().splitlines()
        assert len(lines) == 12
        assert main(command) == 0
        assert measured.read_text().splitlines() == lines, "nothing is made twice"
        capsys.readouterr()
        assert main(["table", str(measured)]) == 0
        told = capsys.readouterr().out
        assert "**six**: 3 windows" in told
        assert "**drawings**: 1 windows" in told
        assert told.count("| `flow` |") == 4
        assert told.count("| `truth` |") == 2, "where films are measured"
        kept, again = tmp_path / "frames", tmp_path / "again.jsonl"
        kept_run = ["run", str(cut), "--kind", "six", "--rows", "hold", "--frames", str(kept), "-o", str(again)]
        assert main(kept_run) == 0
        before = again.read_text()
        for path in kept.glob("hold/*/3.png"):
            cv2.imwrite(str(path), frame(0)[..., ::-1])
        again.unlink()
        assert main(kept_run) == 0
        assert again.read_text() != before, "kept frames are measured, not made again"
        sheet = tmp_path / "worst.png"
        assert main(["sheet", str(measured), str(cut), "--row", "flow", "--count", "2", "-o", str(sheet)]) == 0
        with Image.open(sheet) as drawn:
            assert drawn.width == 1280
            assert "of 1 windows" in capsys.readouterr().out
        theirs = tmp_path / "theirs"
        (kept / "hold").rename(theirs)
        elsewhere = ["--elsewhere", str(theirs)]
        assert main(["run", str(cut), "--kind", "six", "--rows", "theirs", *elsewhere, "-o", str(measured)]) == 0
        drawing = ["sheet", str(measured), str(cut), "--row", "theirs", "-o", str(sheet)]
        assert main([*drawing, *elsewhere]) == 0
        assert "of 3 windows" in capsys.readouterr().out
        assert main(drawing) == 2
        assert "no row 'theirs'" in capsys.readouterr().err
        assert main(["sheet", str(measured), str(cut), "--row", "mine", "-o", str(sheet)]) == 2
        assert "no window of 'mine'" in capsys.readouterr().err

    def test_a_sheet_without_the_dissolve_names_it(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        measured = tmp_path / "m.jsonl"
        for row, window in (("flow", "drawing-000"), ("flow", "drawing-001"), ("dissolve", "drawing-001")):
            table.append(measured, Measured("drawings", window, row, 20, 0.5, 0.01))
        assert main(["sheet", str(measured), "--drawings", "2", "--row", "flow", "-o", str(tmp_path / "s.png")]) == 2
        said = "'dissolve' lacks 1 of the 2 windows of 'flow': measure them by `run --rows dissolve` into the same file"
        assert said in capsys.readouterr().err

    def test_drawings_from_a_number_on(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        measured, sheet = tmp_path / "m.jsonl", tmp_path / "s.png"
        drawn = ["--drawings", "2", "--drawings-from", "100"]
        assert main(["run", *drawn, "--rows", "dissolve,hold", "--frames-alone", "-o", str(measured)]) == 0
        assert [one.window for one in table.read(measured)][::2] == ["drawing-100", "drawing-101"]
        assert main(["sheet", str(measured), *drawn, "--row", "hold", "-o", str(sheet)]) == 0
        assert "of 2 windows" in capsys.readouterr().out
        assert main(["sheet", str(measured), "--drawings", "2", "--row", "hold", "-o", str(sheet)]) == 2
        assert "none of the 2 windows in question is in the CSVs or among the drawings" in capsys.readouterr().err
        for command in (["run"], ["sheet", str(measured)]):
            over = [*command, "--drawings", "48", "--drawings-from", "960", "-o", str(sheet)]
            assert main(over) == 2
            assert "those from 1000 on are kept for tuning" in capsys.readouterr().err


def test_drawings_are_for_tuning_or_for_judging() -> None:
    assert drawings.numbers(48, 100) == range(100, 148)
    assert drawings.numbers(1000) == range(1000)
    assert drawings.numbers(48, 1000) == range(1000, 1048)
    assert list(drawings.numbers(0)) == []
    for count, first, said in (
        (1001, 0, "stay below, or start there"), (2, 999, "stay below"), (1, -1, "below 0"), (0, 5, "say how many"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            drawings.numbers(count, first)


def test_drawings_move_and_stand_still() -> None:
    for number in range(9):
        scene = drawings.scene(number)
        start, again, end = (drawings.picture(scene, time) for time in (0, 0, 1))
        np.testing.assert_array_equal(start, again)
        moved = (np.abs(start.astype(int) - end).max(-1) > 30).mean()
        assert 0.001 < moved < 0.4
    assert drawings.scene(4) == drawings.scene(4)
    assert drawings.scene(4) != drawings.scene(7)
