"""Whether an edited face is still the same person's, by dlib's network (King 2009), which no loss has seen."""

from __future__ import annotations

import numpy as np

SAME = 0.6  # Euclidean distance of two descriptors below which its author takes two faces for one person's
# Edits that leave a person who they are: of smile, mouth, hair, glasses, brows.
KEEPS_IDENTITY = (
    "Arched_Eyebrows",
    "Bangs",
    "Black_Hair",
    "Blond_Hair",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Eyeglasses",
    "Gray_Hair",
    "Mouth_Slightly_Open",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
)
# Where dlib's own detector finds the faces of aligned pictures of 178 x 218: left, top, right, bottom.
_FACE = (46, 86, 135, 176)


class IdentityUnavailableError(Exception):
    """The packages are missing; the message says which and how to get them."""


class Identity:
    """dlib's descriptors of aligned pictures. Raises IdentityUnavailableError."""

    def __init__(self) -> None:
        try:
            import dlib
            import face_recognition_models as models
        except ImportError as exc:
            raise IdentityUnavailableError(f"{exc}: install Facet with the extra `evaluate`") from exc
        self._landmarks = dlib.shape_predictor(models.pose_predictor_five_point_model_location())
        self._describe = dlib.face_recognition_model_v1(models.face_recognition_model_location())
        self._face = dlib.rectangle(*_FACE)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """f64 [N, 128] of uint8 [N, 218, 178, 3]."""
        described = []
        for picture in pixels:
            picture = np.ascontiguousarray(picture)
            described.append(self._describe.compute_face_descriptor(picture, self._landmarks(picture, self._face)))
        return np.array(described)


def same_person(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """bool [N] of descriptors f64 [N, D]."""
    return np.linalg.norm(before - after, axis=1) < SAME
