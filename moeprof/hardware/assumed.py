"""What is assumed of a GPU's power, clocks and heat where its specification leaves it out."""

from __future__ import annotations

from typing import Final

POWER_LIMIT_WATTS: Final = 400.0
SM_CLOCK_HERTZ_MAX: Final = 1.5e9
# An H200 is seen to reach 788 of 989 TFLOP/s (bf16, 8192 cubed) and 4.3 of 4.8 TB/s.
ACHIEVABLE_FLOPS_FRACTION: Final = 0.8
ACHIEVABLE_BANDWIDTH_FRACTION: Final = 0.9

# Shares of the power limit, chosen so that an H200 idles near 80 W, draws 140 to 300 W in decode
# (arXiv 2605.11999 sees 137 to 300 of 700 W), and passes its limit in dense matrix products.
IDLE_FRACTION: Final = 0.08
BUSY_FRACTION: Final = 0.07
LEAKAGE_FRACTION: Final = 0.06  # with the e-fold below about 1 W/K at 60 C, as seen on an A100
TENSOR_CORE_FRACTION: Final = 1.0
REFERENCE_CELSIUS: Final = 60.0  # what leakage is given at
LEAKAGE_EFOLD_CELSIUS: Final = 36.0  # leakage grows e times; doubles every 25 C
JOULES_PER_BYTE: Final = 35e-12  # HBM2 3.9 pJ/bit (O'Connor 2017) and 0.5 to cross the chip
VOLTAGE_FLOOR_FRACTION: Final = 0.6  # voltage at no clock, of that at the highest; joules ~ V^2

SLOWDOWN_CELSIUS: Final = 87.0  # the order of the slowdown temperatures that drivers report
# Hopper's software slows down from 87 C on, its hardware halves the clock, or more, 2 C above.
CLOCK_FRACTION_PER_CELSIUS: Final = 0.25
LOWEST_CLOCK_FRACTION: Final = 0.4
# Of a memory-bound step's seconds, what follows the SM clock. Decode is seen to lose 1 to 6 % at
# the lowest clocks (arXiv 2501.08219) and little where locking saves energy (arXiv 2605.11999).
CLOCKED_MEMORY_FRACTION: Final = 0.1

FULL_POWER_RISE_CELSIUS: Final = 50.0  # over ambient at the limit: 78 C, typical of air cooling
DIE_SHARE_FRACTION: Final = 0.4  # of the thermal resistance; the heatsink has the rest
DIE_SECONDS: Final = 1.5  # time constant of die and lid against the heatsink
HEATSINK_SECONDS: Final = 60.0  # time constant of the heatsink against the air

LAUNCH_SECONDS: Final = 2e-6  # of one kernel inside a graph; CUDA events resolve 0.5 us
FIXED_LAUNCHES: Final = 4  # gather, gate-up, down, combine
