import pytest
from helpers import copied_benchmark


@pytest.fixture()
def copy_of_benchmark(tmp_path):
    return copied_benchmark(tmp_path / "bench")
