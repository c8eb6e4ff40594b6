"""Fine-tuning with Lightning: data sets, and the steps of training, validation and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from nemo.collections.asr.metrics.wer import word_error_rate_detail
from nemo.utils import logging
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.objective import compute_losses
from diffusion_asr.models.tuned import find_denoiser, make_trainable
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.toolkits import translate_errors
from diffusion_asr_nemo.decoding import decoding_options
from diffusion_asr_nemo.toolkit import RecognitionError, in_core_precision
from diffusion_asr_nemo.training_data import Utterance, training_loader


class DiffusionTraining:
    """The mixin; the model brings ``recognizer`` and ``cfg``.

    What is trained is the denoiser, in float32 and on the CPU whatever ``trainer.precision`` says; the
    encoder stays as it is.
    """

    recognizer: Recognizer
    cfg: Any
    _tuned: bool

    def setup_training_data(self, train_data_config: Any) -> None:
        """Read a manifest; keys ``manifest_filepath, batch_size, shuffle, num_workers``, ``min_duration`` and
        ``max_duration``, ``is_tarred`` and ``tarred_audio_filepaths``. None is set up without a manifest.

        Entries need ``text`` and, unless the model has a ``language``, ``lang``. Makes the denoiser float32
        and trainable.

        Raises:
            RecognitionError: A model without a canvas denoiser; an unreadable manifest, or one without an
                entry to train on.
        """  # noqa: D205 - the keys are one sentence
        self._remember("train", train_data_config)
        self._make_trainable()
        self._train_dl = self._utterances("train", train_data_config, shuffle=True)

    def setup_validation_data(self, val_data_config: Any) -> None:
        """As ``setup_training_data``, in the manifest's order."""
        self._remember("validation", val_data_config)
        self._validation_dl = self._utterances("validation", val_data_config, shuffle=False)

    def setup_test_data(self, test_data_config: Any) -> None:
        """As ``setup_validation_data``."""
        self._remember("test", test_data_config)
        self._test_dl = self._utterances("test", test_data_config, shuffle=False)

    def _remember(self, name: str, config: Any) -> None:
        self._update_dataset_config(dataset_name=name, config=config)  # type: ignore[attr-defined]

    def _utterances(self, name: str, config: Mapping[str, Any], shuffle: bool) -> Any:
        if not config.get("manifest_filepath"):
            if config.get("use_lhotse") or config.get("input_cfg"):
                raise RecognitionError(f"{name}_ds: give manifest_filepath; Lhotse's input_cfg is not read")
            logging.warning(f"{name}_ds has no manifest_filepath: no data set is set up")
            return None
        with translate_errors(RecognitionError):
            return training_loader(
                config, self.recognizer.parts.vocabulary, self.cfg.get("language"), shuffle
            )

    def _make_trainable(self) -> None:
        with translate_errors(RecognitionError):
            make_trainable(self.recognizer.parts)
        self._tuned = True

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Batches stay on the CPU, where the model is."""
        return batch

    def _listen(self, batch: Sequence[Utterance]) -> AcousticMemory:
        """What the frozen encoder hears, as tensors that a gradient may pass by."""
        lengths = torch.tensor([len(u.samples) for u in batch])
        heard = self.recognizer.encode(pad_sequence([u.samples for u in batch], batch_first=True), lengths)
        return heard.trainable()

    def _losses(self, batch: Sequence[Utterance], memory: AcousticMemory) -> tuple[Tensor, Tensor]:
        denoiser, languages = find_denoiser(self.recognizer.parts), [u.language for u in batch]
        return compute_losses(denoiser, memory, languages, [u.tokens for u in batch])

    @in_core_precision
    def training_step(self, batch: Sequence[Utterance], batch_idx: int) -> dict[str, Tensor]:
        """Diffusion CTC loss of both unrolled denoising steps."""
        with translate_errors(RecognitionError):
            first, second = self._losses(batch, self._listen(batch))
        loss = first + second
        logs = {"train_loss": loss.detach(), "loss_step1": first.detach(), "loss_step2": second.detach()}
        self.log_dict(logs, batch_size=len(batch), prog_bar=True)  # type: ignore[attr-defined]
        return {"loss": loss}

    def validation_step(self, batch: Sequence[Utterance], batch_idx: int, dataloader_idx: int = 0) -> Any:
        """Loss (with the same noise each time) and word errors of the text as written."""
        outcome = self._outcome("val", batch, batch_idx)
        _list_of(self.validation_step_outputs, self._validation_dl, dataloader_idx).append(outcome)  # type: ignore[attr-defined]
        return outcome

    def test_step(self, batch: Sequence[Utterance], batch_idx: int, dataloader_idx: int = 0) -> Any:
        """As ``validation_step``."""
        outcome = self._outcome("test", batch, batch_idx)
        _list_of(self.test_step_outputs, self._test_dl, dataloader_idx).append(outcome)  # type: ignore[attr-defined]
        return outcome

    @in_core_precision
    def _outcome(self, name: str, batch: Sequence[Utterance], batch_idx: int) -> dict[str, Tensor]:
        with translate_errors(RecognitionError), torch.random.fork_rng(devices=[]):
            torch.manual_seed(batch_idx)
            memory = self._listen(batch)
            first, second = self._losses(batch, memory)
            options = decoding_options(self.cfg.decoding)
            heard = self.recognizer.decode(memory, [u.language for u in batch], options)
        rate, words, *_ = word_error_rate_detail([h.text for h in heard], [u.text for u in batch])
        num, denom = torch.tensor(rate * words), torch.tensor(float(words))
        return {f"{name}_loss": first + second, f"{name}_wer_num": num, f"{name}_wer_denom": denom}


def _list_of(outputs: Any, loaders: Any, number: int) -> Any:
    """Where NeMo wants a step's outcome: a list for each loader, if there are several."""
    return outputs[number] if isinstance(loaders, list | tuple) and len(loaders) > 1 else outputs
