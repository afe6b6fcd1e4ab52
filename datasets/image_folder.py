from benchmark_utils.files.images import FITS, FORMATS, read_pictures
from benchmark_utils.files.paths import ASSETS
from benchmark_utils.own import OwnDataset, image_shape, measure_without_noise


class Dataset(OwnDataset):
    """Your own images, of which a ``task`` by its name, your operator (``physics``) or your ``mask`` shows a part.

    ``path`` is a folder, read with its subfolders in the order of the names (``order=natural``: of the numbers in
    them) from number ``first`` on, ``n_images`` or all. ``fit`` says what happens to an image of another size than
    the ``prior``'s: it is refused, cut to its centre (``centre``) or padded with black (``pad``). Grey, palette,
    transparent and 16-bit images are converted, or refused by ``convert=False``. ``task`` is a name with its strength
    (``sr4``, ``jpeg10``, ``half``), ``physics`` a Python file whose ``function(shape, images)`` returns a deepinv
    Physics, ``mask`` a picture, white where the image is seen, or a folder with one per image. The noise is
    ``noise_std``, ``poisson_rate``, or what goes with the task or operator.
    """

    name = "image_folder"
    parameters = OwnDataset.parameters | {"fit": ["refuse"], "convert": [True]}
    test_config = {"path": str(ASSETS / "ffhq64"), "task": "half", "prior": "faces64_mfa", "n_images": 1}

    def read(self, prior):
        if self.fit not in FITS:
            raise ValueError(f"unknown fit {self.fit!r}; known: {', '.join(FITS)}")
        shape = image_shape(prior)
        paths, images = self.choose(FORMATS)
        data = self.problem(prior, shape, images)
        x_true = read_pictures(paths, shape, self.fit, self.convert)
        if self.physics is not None:
            measure_without_noise(data["operator"], x_true, self.physics)  # which names the file
        return data | {"x_true": x_true, "files": tuple(path.name for path in paths)}
