"""The forms that a law may have, one file each."""

from __future__ import annotations

from trainer.scaling.forms.chinchilla import Chinchilla
from trainer.scaling.forms.data_constrained import DataConstrained
from trainer.scaling.forms.experts import Experts, ExpertsFloor
from trainer.scaling.forms.farseer import Farseer
from trainer.scaling.forms.flops import PowerOfFlops
from trainer.scaling.forms.form import Form
from trainer.scaling.forms.kaplan import Kaplan
from trainer.scaling.forms.mixture import Mixture, Sparsity
from trainer.scaling.forms.over_training import OverTraining
from trainer.scaling.forms.vocabulary import Vocabulary

_ALL: tuple[type[Form], ...] = (
    Chinchilla,
    Kaplan,
    PowerOfFlops,
    Farseer,
    OverTraining,
    DataConstrained,
    Experts,
    ExpertsFloor,
    Mixture,
    Sparsity,
    Vocabulary,
)
FORMS: dict[str, type[Form]] = {form.name: form for form in _ALL}

__all__ = ["FORMS", "Form"]
