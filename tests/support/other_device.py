"""Tensors that claim to lie on an accelerator, for machines without one.

They compute on the CPU, but as on a real accelerator an operation that mixes them with CPU tensors is an
error, and so is reading their numbers before they are copied to the CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("cuda", 0)


class OtherDevice(Tensor):
    """``OtherDevice(x)`` is a copy of ``x`` on the pretended accelerator."""

    copied: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OtherDevice:
        made = torch.Tensor._make_wrapper_subclass(cls, inner.size(), dtype=inner.dtype, device=DEVICE)
        made.copied = inner.detach()
        return made

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OtherDevice({tuple(self.shape)})"

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert {DEVICE} device type tensor to numpy")

    def data_ptr(self) -> int:
        return self.copied.data_ptr()

    def tolist(self) -> Any:
        return self.copied.tolist()  # copies, on a real accelerator too

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        leaves, _ = tree_flatten((args, kwargs))
        target = kwargs.get("device")
        if func is not torch.ops.aten._to_copy.default:
            mixed = [x for x in leaves if isinstance(x, Tensor) and not isinstance(x, cls) and x.ndim]
            if mixed and func is not torch.ops.aten.copy_.default:
                raise RuntimeError(f"{func}: tensors on {DEVICE} and on the CPU in one operation")
        if target is not None:
            kwargs["device"] = torch.device("cpu")
        plain = tree_map(lambda x: x.copied if isinstance(x, cls) else x, (args, kwargs))
        result = func(*plain[0], **plain[1])
        if target is not None and torch.device(target).type == "cpu":
            return result
        if func is torch.ops.aten._local_scalar_dense.default:
            return result
        return tree_map(lambda x: cls(x) if isinstance(x, Tensor) else x, result)


class Accelerator(TorchFunctionMode):
    """Within it, what is copied to or made on ``DEVICE`` is an ``OtherDevice``."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.to and DEVICE in (*args[1:], kwargs.get("device")):
            return args[0] if isinstance(args[0], OtherDevice) else OtherDevice(args[0])
        if func is torch.tensor and kwargs.get("device") == DEVICE:
            return OtherDevice(torch.tensor(*args, **{**kwargs, "device": "cpu"}))
        return func(*args, **kwargs)
