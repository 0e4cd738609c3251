"""Training of `restore`: fill the hole of an aligned face, with or without a reference of the same person."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import EllipsisType

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.contract import CROP_PX, Image, Points, transform_points
from engines.manifest import MODELS
from train import losses
from train.config import Recipe
from train.data.face_set import DrawnFace, FaceSource, mirror_landmarks, typology_angle, valid_mask
from train.data.mixed import open_mixed
from train.hardware import TrainingError, autocast, bare, check_finite, descend, detached, device
from train.networks.perception import choose_backbone, load_backbone
from train.networks.reference import Copied
from train.networks.unet import RestoreUNet
from train.networks.unet_export import RestoreExport
from train.occlusion.masks import bare_skin, random_mask
from train.occlusion.served_views import ServedViews
from train.schedule import LossSchedule, Ramp, ScheduleError, at_once, from_share, with_weights
from train.task import ModelIO, Sample
from train.tasks.adversaries import DISCRIMINATORS, AdversarialGame, DiscriminatorInput, make_discriminators
from train.tasks.embed import INPUT_PX, EmbedNet, exported

#: Structure first, then perception and colour, then the two adversaries. The heights come from the gradients that reach
#: the picture: each adversary pushes about as hard as `l1` and `style`; `perceptual` pushes several times as hard. With
#: a quarter of it, `adv_patch` left the face as soft as it was.
RAMPS = {
    "l1": Ramp(8.0, 8.0),
    "perceptual": Ramp(0.2, 0.8, start=0.02, end=0.3),
    "style": Ramp(0.0, 0.15, start=0.05, end=0.3),
    "tv": Ramp(0.0, 0.1, start=0.05, end=0.3),
    "histogram": Ramp(0.0, 0.2, start=0.05, end=0.3),
    "symmetry": Ramp(0.0, 0.1, start=0.05, end=0.3),
    "adv_patch": Ramp(0.0, 4.0, start=0.3, end=0.5),
    "adv_global": Ramp(0.0, 0.02, start=0.4, end=0.6),
}
#: Of the losses that count only where the recipe gives them a weight; the height is then the recipe's.
OPTIONAL_RAMPS = {
    "identity": Ramp(0.0, 1.0, start=0.02, end=0.2),
    "adv_projected": Ramp(0.0, 1.0, start=0.3, end=0.5),
    "feature_matching": Ramp(0.0, 1.0, start=0.3, end=0.5),
    "copied": Ramp(1.0, 1.0),
}
#: The losses that discriminators make.
ADVERSARIAL = (*DISCRIMINATORS, "feature_matching")
#: What looks for texture looks at so many pixels of a larger picture, at other ones in each step.
WINDOW_PX = 128
#: Textures are fine: `style` looks at so many of the backbone's first layers. Deeper ones cost more than all the rest.
STYLE_LAYERS = 2
#: What the strength of the skin's grain weighs in `style`.
GRAIN_SHARE = 0.6
#: A discriminator learns alone for this share of the run before its loss begins to count.
HEAD_START = 0.005
#: So many of a batch are shown in TensorBoard.
PICTURES = 6
NO_REFERENCE_CHANCE = 0.5
#: With a reference, how often a person is looked for (in so many draws at most) who has another photograph. The same
#: photograph bent teaches to copy; another one, what may be copied.
PAIRED_CHANCE, PAIRED_DRAWS = 0.7, 4
#: How far the same photograph is bent, in pixels.
BEND_PX = (1.5, 5.0)
#: How often two faces are drawn and the one with the darker skin is taken: dark skin is rare in sets of faces.
DARKER_CHANCE = 0.75
#: How far off the template the finder's landmarks leave a covered face, as standard deviations: its middle in each
#: direction, its turn, the logarithm of its scale. On 168 composites of `wide` (half the 16th to 84th percentile) its
#: crop is 3.9 and 4.5 px, 3.6 degrees and 0.043 from the labels', which are off by about half of that themselves.
SHIFT_PX, TURN_DEGREES, SCALE_SPREAD = 3.5, 2.8, 0.036
#: A face's middle: what it is shifted from and turned around.
MIDDLE = (128.0, 150.0)
#: How much of that a reference is off: nothing hid the face when it was aligned (2.7 px, 3.1 degrees, 0.033 measured).
BARE_STRENGTH = 0.6


class RestoreTask:
    """U-Net generator against its discriminators, under eight losses and those that a recipe adds."""

    name = "restore"

    def __init__(self, recipe: Recipe, data: Path) -> None:
        self._recipe = recipe
        self._data = data
        self._tones: dict[str, float] = {}
        optional = OPTIONAL_RAMPS.keys() & recipe.weights.keys()
        if "copied" in optional and not recipe.copy:
            raise ScheduleError("`copied` is the loss of what the restorer copies: add --copy, or leave it out")
        ramps = with_weights(RAMPS | OPTIONAL_RAMPS, recipe.weights)
        for name in OPTIONAL_RAMPS.keys() - optional:
            del ramps[name]
        if recipe.full_weights:
            ramps |= at_once(ramps, ramps.keys() - ADVERSARIAL)
        if recipe.adversaries_from is not None:
            ramps |= from_share(ramps, ADVERSARIAL, recipe.adversaries_from)
        self.schedule = LossSchedule(ramps, (*losses.LOSSES, *optional))
        self.modules = {
            "network": RestoreUNet(attention=recipe.attention, blocks=recipe.blocks, copy=recipe.copy),
            **make_discriminators(recipe, choose_backbone(recipe.backbone, data).WIDTHS),
        }
        if recipe.size_px != CROP_PX:
            self.modules["network"].fine.requires_grad_(False)
        if recipe.copy_alone:
            train_alone(self.modules["network"], self.modules["network"].copy)
        self.optimizers = {
            name: _adam(module, recipe.learning_rate, 0.8 if name == "network" else 0.5)
            for name, module in self.modules.items()
        }
        self._adversaries = AdversarialGame(recipe, self.modules, self.optimizers)

    @cached_property
    def _backbone(self) -> nn.Module:
        """What `perceptual` and `style` see with; only training needs its file."""
        return load_backbone(self._recipe.backbone, self._data).to(device(self._recipe))

    @cached_property
    def _embed(self) -> EmbedNet:
        """What `identity` sees with."""
        return exported(MODELS / "embed.fp32.onnx").to(device(self._recipe), memory_format=torch.channels_last)

    # -- samples

    def open_data(self) -> None:
        """The faces, each of which workers then decode and ask about once for all of them."""
        _ = self._faces

    @cached_property
    def _faces(self) -> FaceSource:
        return open_mixed(self._data, self._views.segmenter.is_bare)

    @cached_property
    def _views(self) -> ServedViews:
        """What covers faces; only training needs its files."""
        return ServedViews(self._data, self._recipe.much_hidden)

    def sample(self, rng: np.random.Generator) -> Sample:
        """CHW uint8 BGR `face` as it is served, `truth` and `reference`; 1HW masks of them; how `frontal` it is, 0..1.

        `hole` is to be painted, `valid` is where the photograph is, `clean` where `face` shows no thing before it.
        """
        wants_reference = self._recipe.copy_alone or rng.random() >= NO_REFERENCE_CHANCE
        drawn = self._draw(rng, wants_reference and rng.random() < PAIRED_CHANCE)
        mirror = bool(rng.random() < 0.5)
        face, valid, landmarks = jitter(drawn.image, valid_mask(drawn.row), drawn.row.landmarks, rng, mirror)
        reference, reference_valid = np.zeros_like(face), np.zeros_like(valid)
        if wants_reference:
            reference, reference_valid = self._reference(drawn, face, valid, rng, mirror)
        view = self._views.draw(relight(face, rng, 0.5), landmarks, rng)
        maps = {"hole": view.hole, "valid": valid, "clean": view.clean, "reference_mask": reference_valid}
        pictures = {"face": view.shown, "truth": view.truth, "reference": reference}
        side = self._recipe.size_px
        return {
            **{name: _resized(picture, side).transpose(2, 0, 1).copy() for name, picture in pictures.items()},
            **{name: (_resized(mask, side)[None] > 127).astype(np.uint8) for name, mask in maps.items()},
            "frontal": np.array(frontality(landmarks), np.float32),
        }

    def _draw(self, rng: np.random.Generator, paired: bool = False) -> DrawnFace:
        """A face of the set; by chance the darker of two. `paired` looks for a person with a name."""
        for _ in range(PAIRED_DRAWS if paired else 1):
            drawn = [self._faces.draw(rng) for _ in range(2 if rng.random() < DARKER_CHANCE else 1)]
            chosen = min(drawn, key=self._tone)
            if chosen.row.identity is not None:
                break
        return chosen

    def _tone(self, drawn: DrawnFace) -> float:
        """The typology angle of a face, measured once."""
        if drawn.row.file not in self._tones:
            self._tones[drawn.row.file] = _tone(drawn)
        return self._tones[drawn.row.file]

    def _reference(
        self, drawn: DrawnFace, face: Image, valid: Image, rng: np.random.Generator, mirror: bool
    ) -> tuple[Image, Image]:
        """Another photograph of the same person, or the same one warped and relit."""
        another = drawn.sibling(rng) if self._recipe.another > 0 else None
        if another is not None and rng.random() < self._recipe.another:
            row, image = another
            reference, reference_valid, _ = jitter(image, valid_mask(row), row.landmarks, rng, mirror, BARE_STRENGTH)
        else:
            reference, reference_valid = bend(face, valid, rng)
        if rng.random() < 0.3:  # a memory rarely knows the whole face
            missing = random_mask(drawn.row.landmarks, rng)
            reference_valid = reference_valid & ~missing
        return relight(reference, rng, 1.0), reference_valid

    # -- steps

    def train_step(self, batch: Mapping[str, Tensor], progress: float) -> dict[str, Tensor]:
        """First each discriminator whose turn it is, then the generator."""
        served, face, reference = (
            (batch[name].float() / 255).contiguous(memory_format=torch.channels_last)
            for name in ("face", "truth", "reference")
        )
        hole, valid, clean, reference_valid = (
            batch[name].float() for name in ("hole", "valid", "clean", "reference_mask")
        )
        valid = valid * torch.maximum(hole, clean)  # no loss counts what shows the thing beside its hole
        weights = self.schedule.at(progress)
        soon = self.schedule.at(progress + HEAD_START)
        with autocast(self._recipe):
            made, copied = self._generate(served, hole, reference, reference_valid)
        terms = {"l1": losses.l1(made, face, hole, valid)}
        if copied is not None and weights.get("copied", 0.0) > 0:
            terms["copied"] = losses.copied(copied.picture, face, valid * copied.known.detach())
        if weights.get("identity", 0.0) > 0:
            terms["identity"] = losses.identity(*self._embedded(face + hole * (made - face), face))
        # Smeared edges are the same in both pictures that a discriminator sees, so they teach nothing.
        skin = middle(losses.skin_map(face.shape[-1], face.device))
        valid, hole = middle(valid), middle(hole * valid)
        real = middle(face)
        shown = real + hole * (middle(made) - real)
        near = window(real.shape[-1])
        learning = [name for loss, name in DISCRIMINATORS.items() if soon.get(loss, 0.0) > 0]
        perceives = weights["perceptual"] > 0 or weights["style"] > 0
        views = {
            "patch": DiscriminatorInput([real[near]], [shown[near]], hole[near], shows_hole=True),
            "global": DiscriminatorInput([real], [shown], hole, shows_hole=True),
        }
        if perceives or "projected" in learning:
            features, truth = self._features(shown[near], real[near])
        if "projected" in learning:
            views["projected"] = self._projected(features, truth, hole[near])
        record = {f"d_{name}": self._adversaries.learn(name, views[name]) for name in learning}
        if perceives:
            terms |= self._perceived(features, truth, (shown[near], real[near], hole[near], skin[near]))
        terms["tv"] = losses.tv(shown, hole)
        terms["histogram"] = losses.histogram(shown, real, hole, valid, skin)
        terms["symmetry"] = losses.symmetry(shown, real, hole, valid, batch["frontal"])
        terms |= self._adversaries.terms(views, weights)
        check_finite(record | terms)
        descend(losses.weighted_sum(terms, weights), self.optimizers["network"], self.modules["network"])
        return detached(record | terms)

    def _generate(
        self, face: Tensor, hole: Tensor, reference: Tensor, reference_valid: Tensor
    ) -> tuple[Tensor, Copied | None]:
        """Pictures smaller than the template train the coarse half alone, which sees them as it will at half size."""
        fine, copies = self._recipe.size_px == CROP_PX, self._recipe.copy
        made = self.modules["network"](face, hole, reference, reference_valid, fine, copies)
        made, copied = made if copies else (made, None)
        return made.float(), copied

    def _embedded(self, shown: Tensor, face: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors of the restored and of the true face, as `embed` sees faces: whole ones, at INPUT_PX."""
        uncovered = face.new_zeros(len(face), 1, INPUT_PX, INPUT_PX)
        shown, face = (F.adaptive_avg_pool2d(picture, INPUT_PX) for picture in (shown, face))
        with autocast(self._recipe):
            with torch.no_grad():
                truth = self._embed(face, uncovered)
            return self._embed(shown, uncovered), truth

    def _features(self, shown: Tensor, real: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """One look of the backbone at each picture, for all that sees with it."""
        with autocast(self._recipe):
            features = self._backbone(shown)
            with torch.no_grad():
                return features, self._backbone(real)

    def _projected(self, features: list[Tensor], truth: list[Tensor], hole: Tensor) -> DiscriminatorInput:
        module = bare(self.modules["projected"])
        with autocast(self._recipe):
            return DiscriminatorInput(module.mixed(truth), module.mixed(features), hole)

    def _perceived(
        self, features: list[Tensor], truth: list[Tensor], pictures: tuple[Tensor, Tensor, Tensor, Tensor]
    ) -> dict[str, Tensor]:
        """`perceptual` and `style`. `pictures`: restored, true, hole and skin."""
        hole = pictures[2]
        style = losses.style(features[:STYLE_LAYERS], truth[:STYLE_LAYERS], hole)
        if self._recipe.size_px == CROP_PX:  # the coarse half, alone, has no noise to make texture of
            style = style + GRAIN_SHARE * losses.grain(*pictures)
        return {"perceptual": losses.perceptual(features, truth, hole), "style": style}

    def pictures(self, batch: Mapping[str, Tensor]) -> Image:
        """Rows of what is served, its hole, restored, reference and truth."""
        planes = {name: value[:PICTURES].float() for name, value in batch.items()}
        face, truth, reference = (planes[name] / 255 for name in ("face", "truth", "reference"))
        hole = planes["hole"]
        network = bare(self.modules["network"]).eval()
        with torch.no_grad(), autocast(self._recipe):
            made = network(
                face, hole, reference, planes["reference_mask"], fine=self._recipe.size_px == CROP_PX
            ).float()
        columns = (face, face * (1 - hole), face + hole * (made - face), reference, truth)
        rows = torch.cat([torch.cat(tuple(row), dim=-1) for row in zip(*columns, strict=True)], dim=-2)
        return (rows.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()

    # -- export

    def model_io(self, network: nn.Module) -> ModelIO:
        picture, mask = (1, CROP_PX, CROP_PX, 3), (1, CROP_PX, CROP_PX, 1)
        inputs = {"face": picture, "mask": mask, "reference": picture, "reference_mask": mask}
        dynamic = {name: {0: "batch"} for name in inputs}
        return ModelIO(RestoreExport(network), inputs, {"restored": picture}, dynamic)


def train_alone(network: nn.Module, part: nn.Module | None) -> None:
    """Lets nothing but one part of a network learn. Raises TrainingError where the network has no such part."""
    if part is None:
        raise TrainingError("--copy-alone trains the part that --copy adds: give both")
    network.requires_grad_(False)
    part.requires_grad_(True)


def _tone(drawn: DrawnFace) -> float:
    """The typology angle of a face in the template; every fourth pixel of each row and column is enough."""
    few = np.s_[::4, ::4]
    return typology_angle(drawn.image[few], (bare_skin() & valid_mask(drawn.row))[few])


def middle(x: Tensor) -> Tensor:
    """The part of an aligned picture that the face fills: what the losses compare, at half the cost of the whole."""
    unit = x.shape[-1] // 16
    return x[..., 3 * unit : 15 * unit, 2 * unit : 14 * unit]


def window(side: int) -> tuple[EllipsisType, slice, slice]:
    """A square of WINDOW_PX anywhere in pictures of `side`; all of smaller ones."""
    top, left = torch.randint(max(side - WINDOW_PX, 0) + 1, (2,)).tolist()
    return ..., slice(top, top + WINDOW_PX), slice(left, left + WINDOW_PX)


def frontality(landmarks: Points) -> float:
    """1 where the face looks straight ahead, 0 from where the nose is a fifth of the eyes' distance off the middle."""
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks.astype(np.float64)
    across = right_eye - left_eye
    centre = (left_eye + right_eye + left_mouth + right_mouth) / 4
    return max(0.0, 1.0 - 5 * abs(float((nose - centre) @ across)) / float(across @ across))


def jitter(
    image: Image, valid: Image, landmarks: Points, rng: np.random.Generator, mirror: bool, strength: float = 1.0
) -> tuple[Image, Image, Points]:
    """Mirrored with `mirror`, and a little off the template, as live landmarks are."""
    if mirror:
        image, valid = image[:, ::-1], valid[:, ::-1]
        landmarks = mirror_landmarks(landmarks)
    turn, scale = rng.normal(0, TURN_DEGREES * strength), float(np.exp(rng.normal(0, SCALE_SPREAD * strength)))
    matrix = cv2.getRotationMatrix2D(MIDDLE, turn, scale).astype(np.float32)
    matrix[:, 2] += rng.normal(0, SHIFT_PX * strength, 2)
    size = (CROP_PX, CROP_PX)
    image = cv2.warpAffine(np.ascontiguousarray(image), matrix, size, borderMode=cv2.BORDER_REPLICATE)
    valid = cv2.warpAffine(np.ascontiguousarray(valid), matrix, size, flags=cv2.INTER_NEAREST)
    return image, valid, transform_points(landmarks, matrix)


def bend(image: Image, valid: Image, rng: np.random.Generator) -> tuple[Image, Image]:
    """The same face a moment later: a smooth warp of a few pixels, sometimes softer."""
    far_px = rng.uniform(*BEND_PX)
    coarse = (rng.normal(0, far_px, (5, 5, 2)) + rng.normal(0, far_px, 2)).astype(np.float32)
    flow = cv2.resize(coarse, (CROP_PX, CROP_PX), interpolation=cv2.INTER_CUBIC)
    x, y = np.meshgrid(np.arange(CROP_PX, dtype=np.float32), np.arange(CROP_PX, dtype=np.float32))
    bent = cv2.remap(image, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    reference_valid = cv2.remap(valid, x + flow[..., 0], y + flow[..., 1], cv2.INTER_NEAREST)
    if rng.random() < 0.3:
        bent = cv2.GaussianBlur(bent, (0, 0), rng.uniform(0.5, 1.5))
    return bent, reference_valid


def relight(image: Image, rng: np.random.Generator, strength: float) -> Image:
    """Another exposure and white balance: gain and gamma for each channel, as one table."""
    gain = 1 + rng.normal(0, 0.10 * strength) + rng.normal(0, 0.04 * strength, 3)
    gamma = np.exp(rng.normal(0, 0.15 * strength))
    levels = np.arange(256, dtype=np.float64)[:, None] / 255
    table = np.clip(levels**gamma * gain * 255, 0, 255).astype(np.uint8)
    return cv2.LUT(image, table[:, None, :])


def _adam(module: nn.Module, learning_rate: float, momentum: float) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), learning_rate, (momentum, 0.99), fused=True)


def _resized(array: Image, side: int) -> Image:
    return array if array.shape[0] == side else cv2.resize(array, (side, side), interpolation=cv2.INTER_AREA)
