"""Operators with one parameter per image: a mask, a blur kernel, a kernel code."""

import copy


class PerImage:
    """Mixin for an operator whose parameters differ from image to image.

    The buffers named in ``per_image`` have one row per image, in the order of the images; ``InverseProblem.rows``
    calls :meth:`take` whenever it picks or repeats images.
    """

    per_image = ()

    def take(self, index):
        """The operator of the images at positions ``index``; what is not per image is shared, not copied."""
        taken = copy.copy(self)
        taken._buffers = self._buffers | {name: self._buffers[name][list(index)] for name in self.per_image}
        return taken
