"""What a cell stores for the page beside its scores."""

import functools
import warnings
from urllib.error import URLError

import torch

BATCH = 16


@functools.cache
def inception():
    """torchmetrics' InceptionV3, weights fetched on first use (95 MB); None, with a notice, without them."""
    from torchmetrics.image.fid import NoTrainInceptionV3

    try:
        return NoTrainInceptionV3("inception-v3-compat", ["2048"])
    except (URLError, TimeoutError, ConnectionError) as error:
        folder = f"{torch.hub.get_dir()}/checkpoints"
        notice = f"FID is left out: the Inception weights are not in {folder} and not reachable ({error})"
        warnings.warn(notice, stacklevel=2)
        return None


def features(images):
    """Inception features of uint8 images (n, H, W, 3): (n, 2048) in float16, or None."""
    network = inception()
    if network is None:
        return None
    batches = torch.from_numpy(images).movedim(-1, 1).split(BATCH)
    with torch.no_grad():
        return torch.cat([network(batch) for batch in batches]).half().numpy()
