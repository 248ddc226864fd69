"""The books: what a run costs, computed by pure functions of the typed config. No torch is imported here."""

from __future__ import annotations

from trainer.books.flops import flops
from trainer.books.formatting import format_amount, format_price_tag, format_quantity
from trainer.books.measured import measured
from trainer.books.memory import MemoryAccount, memory
from trainer.books.model import format_model, model_account
from trainer.books.parameters import ParameterAccount, parameters
from trainer.books.plan import plan, reprice
from trainer.books.price import price, price_json
from trainer.books.quantity import PriceTag, Quantity, Row
from trainer.books.step_flops import FlopAccount
from trainer.books.table import format_plans, plan_row, plans_json

__all__ = [
    "FlopAccount",
    "MemoryAccount",
    "ParameterAccount",
    "PriceTag",
    "Quantity",
    "Row",
    "flops",
    "format_amount",
    "format_model",
    "format_plans",
    "format_price_tag",
    "format_quantity",
    "measured",
    "memory",
    "model_account",
    "parameters",
    "plan",
    "plan_row",
    "plans_json",
    "price",
    "price_json",
    "reprice",
]
