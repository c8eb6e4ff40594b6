"""Fine-tune a diffusion-asr model from a NeMo manifest with hydra and Lightning, and write a .nemo file.

python recipes/nemo/finetune.py train_ds.manifest_filepath=train.json output=tuned.nemo
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import CSVLogger
from nemo.core.config import hydra_runner
from nemo.utils import logging
from omegaconf import OmegaConf

from diffusion_asr_nemo import DiffusionASRModel


def load(source: str, language: str | None) -> Any:
    """A model from a .nemo file, an embedded model's name or a model folder."""
    if Path(source).suffix == ".nemo":
        return DiffusionASRModel.restore_from(source)
    return DiffusionASRModel.from_checkpoint(source, language=language)


@hydra_runner(config_path=".", config_name="finetune")  # type: ignore[untyped-decorator]
def main(cfg: Any) -> None:
    logging.info(f"Configuration:\n{OmegaConf.to_yaml(cfg)}")
    pl.seed_everything(cfg.seed)
    logger = CSVLogger(save_dir=cfg.log_dir, name="losses")
    options: Any = OmegaConf.to_container(cfg.trainer, resolve=True)
    trainer = pl.Trainer(logger=logger, **options)
    model = load(cfg.init_from, cfg.language)
    model.set_trainer(trainer)
    model.setup_training_data(cfg.train_ds)
    if cfg.validation_ds.manifest_filepath:
        model.setup_multiple_validation_data(cfg.validation_ds)
    model.setup_optimization(cfg.optim)
    trainer.fit(model)
    model.save_to(cfg.output)


if __name__ == "__main__":
    main()
