"""The groups that say what a run's time, energy and carbon cost where it runs: machine, site and meter."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ValidationInfo, field_validator, model_validator

from trainer.utils.errors import nearest
from trainer.utils.schema import Count, Paths, Section, key

DTYPES = ("bf16", "fp16", "tf32", "fp32", "fp8")
# Peaks that datasheets print with sparsity (or for FP8): twice what dense 16-bit work can reach.
SPARSE_PEAKS = {
    624e12: "A100",
    733e12: "L40S",
    1513e12: "H100 PCIe",
    1671e12: "H100 NVL",
    1979e12: "H100 and H200",
    2615e12: "MI300X",
    4500e12: "B200",
}
ARCHITECTURES = ("sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "gfx942", "gfx950")


def an_architecture(value: str) -> str:
    """What kernels are compiled for, a chip's nearest one below (sm_100 for sm_103). Raises ValueError."""
    if value in ARCHITECTURES:
        return value
    raise ValueError(
        f"{value!r} is no architecture; there is {', '.join(ARCHITECTURES)}{nearest(value, ARCHITECTURES)}"
    )


def a_dtype(value: str) -> str:
    """A dtype that datasheets state peaks for. Raises ValueError."""
    if value in DTYPES:
        return value
    raise ValueError(f"{value!r} is no dtype; there is {', '.join(DTYPES)}{nearest(value, DTYPES)}")


class MachineConfig(Section):
    """What the datasheet says about one device; null where it is not stated."""

    name: str = key("unstated", "name of the device")
    architecture: Annotated[str, AfterValidator(an_architecture)] | None = key(
        None, "what kernels are compiled for, e.g. sm_90, by which kernels.attention=auto chooses", introduced=None
    )
    peak_flops: dict[str, float] = key({}, f"dense peak by dtype ({', '.join(DTYPES)}), never a sparse one", "FLOP/s")
    memory_bytes: Count | None = key(None, "memory of one device", "bytes", gt=0)
    memory_bandwidth: float | None = key(None, "between a device and its memory", "B/s", gt=0)
    link_bandwidth: float | None = key(None, "of one device to the others of its host, one direction", "B/s", gt=0)
    network_bandwidth: float | None = key(None, "of one device to other hosts, one direction", "B/s", gt=0)
    host_bandwidth: float | None = key(
        None, "of one device to its host's memory, one direction, for offload", "B/s", gt=0, introduced=None
    )
    devices_per_host: int | None = key(None, "devices that share the links of one host", "devices", ge=1)
    software: int | None = key(
        None,
        "year of the software that shares of the peak are taken of; null: the newest there are",
        ge=2017,
        le=2100,
        introduced=None,
    )
    power_watts: float | None = key(None, "board power of one device", "W", gt=0)
    embodied_kgco2e: float | None = key(None, "emissions of making one device", "kg CO2e", gt=0)
    lifetime_hours: float | None = key(None, "hours over which they are spread", "h", gt=0)
    source: str | None = key(None, "the datasheet's name")
    driver_names: Paths = key((), "what drivers call the device, by which a host's is recognised", introduced=())

    @field_validator("peak_flops")
    @classmethod
    def _dense(cls, peaks: dict[str, float]) -> dict[str, float]:
        for dtype, peak in peaks.items():
            a_dtype(dtype)
            if peak <= 0:
                raise ValueError(f"{dtype}: {peak} is not a positive number of FLOP/s")
            if dtype in ("bf16", "fp16") and peak in SPARSE_PEAKS:
                whose = SPARSE_PEAKS[peak]
                raise ValueError(f"{dtype}: {peak:g} is the sparse (or FP8) peak of {whose}; dense is {peak / 2:g}")
        return peaks


def a_currency(value: Any) -> str:
    """A currency's code or sign. Raises ValueError."""
    if isinstance(value, str) and re.fullmatch(r"[^\W\d_]{1,4}|[^\w\s]", value):
        return value
    raise ValueError(f"{value!r} is no currency; write e.g. USD")


def a_date(value: Any) -> str:
    """A year, a month or a day, as 2026, 2026-11 or 2026-11-24. Raises ValueError."""
    text = str(value)
    if re.fullmatch(r"(19|20)\d\d(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?", text):
        return text
    raise ValueError(f"{text!r} is no date; write 2026, 2026-11 or 2026-11-24")


def a_gram(value: Any) -> str:
    """The unit of an intensity, where it has to be said. Raises ValueError."""
    if value == "g":
        return "g"
    raise ValueError(f"{value!r} given; g says that grams are meant (kgco2e_per_kwh takes kilograms)")


MOST_GRAMS = 2000.0  # a kWh, of any grid


def no_intensity(grams: float, way: str, *, meant: bool = False) -> str | None:
    """What is wrong with an intensity in g/kWh, or null. Between 0 and 1 g are a few grids of water and wind, and far
    more often kilograms: such a number is taken where `way` says that grams are meant."""
    if grams == 0 or 1 <= grams <= MOST_GRAMS or (meant and 0 < grams < 1):
        return None
    if 0 < grams < 1:
        return (
            f"{grams:g} g/kWh is less than nearly any grid has; {grams:g} kg would be {grams * 1000:g} (grams: {way})"
        )
    return f"{grams:g} g/kWh is no grid's intensity (0 to {MOST_GRAMS:g} grams per kWh)"


class SiteConfig(Section):
    """Where the energy comes from and what things cost there; null where it is not stated."""

    name: str = key("unstated", "name of the site")
    pue: float | None = key(None, "power usage effectiveness: facility over IT energy", ge=1, le=10)
    intensity_unit: Literal["g"] | None = key(
        None, "g: an intensity of less than 1 g/kWh is meant, and not one in kg", introduced=None
    )
    gco2e_per_kwh: float | None = key(None, "grid intensity", "g/kWh", ge=0, le=2000)
    market_gco2e_per_kwh: float | None = key(None, "the same after contracts (market-based)", "g/kWh", ge=0, le=2000)
    intensity_year: int | None = key(None, "year of the intensity", ge=1990, le=2100)
    intensity_source: str | None = key(None, "who published the intensity")
    curve: str | None = key(
        None, "CSV file of the intensity by time, in place of the yearly one (docs/carbon.md)", introduced=None
    )
    curve_kind: Literal["average", "marginal"] | None = key(
        None, "which intensity of the curve; null: the only one of the file, of two the average", introduced=None
    )
    curve_repeats: bool = key(False, "the curve is of typical days, and stands for all others", introduced=False)
    wue_l_per_kwh: float | None = key(
        None, "water that the facility uses (WUE), a kWh of the devices", "l/kWh", ge=0, le=100, introduced=None
    )
    water_l_per_kwh: float | None = key(
        None, "water that making electricity uses, a kWh of the facility", "l/kWh", ge=0, le=1000, introduced=None
    )
    water_source: str | None = key(None, "who published the use of water", introduced=None)
    price_per_device_hour: float | None = key(None, "rent of one device", "currency/h", ge=0)
    price_per_kwh: float | None = key(None, "price of energy", "currency/kWh", ge=0)
    currency: Annotated[str, BeforeValidator(a_currency)] | None = key(None, "currency of the prices, e.g. USD")
    price_date: Annotated[str, BeforeValidator(a_date)] | None = key(None, "date of the prices, e.g. 2026-11")

    @field_validator("gco2e_per_kwh", mode="before")
    @classmethod
    def _in_grams(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, float | int) and not isinstance(value, bool):
            meant = info.data.get("intensity_unit") == "g"
            if wrong := no_intensity(value, "site.intensity_unit=g", meant=meant):
                raise ValueError(wrong)
        return value

    @model_validator(mode="after")
    def _complete(self) -> SiteConfig:
        prices = [name for name in ("price_per_device_hour", "price_per_kwh") if getattr(self, name) is not None]
        if len(prices) > 1:
            raise ValueError("price_per_kwh: a device's rent already pays for its energy; state one of the two prices")
        if prices and not (self.currency and self.price_date):
            raise ValueError(f"{prices[0]}: a price needs site.currency and site.price_date")
        if self.gco2e_per_kwh is not None and not (self.intensity_source and self.intensity_year):
            raise ValueError("gco2e_per_kwh: an intensity needs site.intensity_source and site.intensity_year")
        water = [name for name in ("wue_l_per_kwh", "water_l_per_kwh") if getattr(self, name) is not None]
        if water and not self.water_source:
            raise ValueError(f"{water[0]}: a use of water needs site.water_source")
        needs = [name for name in ("curve_kind", "curve_repeats") if getattr(self, name)]
        if needs and self.curve is None:
            raise ValueError(f"{needs[0]}: there is no curve; name its file with site.curve")
        return self


class MeterConfig(Section):
    """The instruments."""

    every_seconds: float = key(5.0, "time between two readings of the energy counters", "s", gt=0, le=60)
    thread_watts_low: float = key(1.5, "where no counter is: a busy CPU thread draws at least", "W", gt=0)
    thread_watts_high: float = key(7.0, "where no counter is: a busy CPU thread draws at most", "W", gt=0)
    host_idle_watts: float | None = key(
        None, "where no counter is: what a host draws idle, of which one has the sole use", "W", gt=0, introduced=None
    )
    memory_watts: float | None = key(
        None, "where no counter is: what the memory of a host draws", "W", gt=0, introduced=None
    )
    unmetered_factor: float | None = key(
        None, "energy of all that computes and connects over that of what is metered", ge=1, le=10, introduced=None
    )
    unmetered_source: str | None = key(None, "who published that factor", introduced=None)

    @model_validator(mode="after")
    def _sourced(self) -> MeterConfig:
        if self.unmetered_factor is not None and not (self.unmetered_source or "").strip():
            raise ValueError("unmetered_factor: a factor needs meter.unmetered_source, who published it")
        return self

    @model_validator(mode="after")
    def _interval(self) -> MeterConfig:
        if self.thread_watts_low > self.thread_watts_high:
            raise ValueError(
                f"thread_watts_low: {self.thread_watts_low} is more than thread_watts_high {self.thread_watts_high}"
            )
        return self
