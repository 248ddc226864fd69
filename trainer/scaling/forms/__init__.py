"""The forms that a law may have, one file each."""

from __future__ import annotations

from trainer.scaling.forms.chinchilla import Chinchilla
from trainer.scaling.forms.data_constrained import DataConstrained
from trainer.scaling.forms.farseer import Farseer
from trainer.scaling.forms.flops import PowerOfFlops
from trainer.scaling.forms.form import Form
from trainer.scaling.forms.kaplan import Kaplan

FORMS: dict[str, type[Form]] = {
    form.name: form for form in (Chinchilla, Kaplan, PowerOfFlops, Farseer, DataConstrained)
}

__all__ = ["FORMS", "Form"]
