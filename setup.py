"""Package metadata; `make setup` installs it with the tested versions."""

import re
from pathlib import Path

from setuptools import find_packages, setup

VERSION = (Path(__file__).parent / "minbert" / "version.py").read_text(encoding="utf-8")

setup(
    name="minbert",
    version=re.search(r'VERSION = "(.+)"', VERSION)[1],
    description="BERT from scratch in plain PyTorch, fine-tuned on several tasks at once",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(
        include=["minbert", "minbert.*", "tasks", "tasks.*", "experiments", "benchmarks"]
    ),
    package_data={"minbert": ["py.typed"]},  # type checkers read the hints
    py_modules=["train_multitask", "pretrain_mlm", "evaluate"],
    install_requires=[
        "torch==2.13.0",
        "numpy>=1.26",
        "scipy>=1.11",
        "tokenizers>=0.20",
        "safetensors>=0.4",
        "tqdm>=4.66",
    ],
    extras_require={
        "test": [
            "pytest>=8",
            "pytest-xdist>=3",
            "transformers>=4.44",
            "sentence-transformers>=3",
            "pyarrow>=14",
            "onnx>=1.17",
            "onnxscript>=0.5",
            "onnxruntime>=1.20",
            "pandas>=2",
            "tensorboard>=2.17",
            "accelerate>=1",
            "lightning-fabric>=2.4",
            "peft>=0.13",
            "seqeval>=1.2",
            "scikit-learn>=1.3",
            "matplotlib>=3.8",
        ],
        "dev": ["ruff>=0.6"],
        "bench": [
            "transformers>=4.44",
            "sentence-transformers>=3",
            "accelerate>=1",
            "datasets>=3",
            "onnx>=1.17",
            "onnxscript>=0.5",
            "onnxruntime>=1.20",
            "openvino>=2025",
            "nncf>=2.15",
        ],
        "figures": ["matplotlib>=3.8"],
        "onnx": ["onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20"],
        "tensorboard": ["tensorboard>=2.17"],
    },
)
