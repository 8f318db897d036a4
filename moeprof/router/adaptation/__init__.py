"""What a router learns while it serves: lambda, the GPUs' factors, and whom to believe."""

from moeprof.router.adaptation.dual_ascent import DualAscent, DualAscentSettings
from moeprof.router.adaptation.gpu_factors import GpuFactors, GpuFactorsSettings
from moeprof.router.adaptation.trust import Trust, TrustSettings

__all__ = [
    "DualAscent",
    "DualAscentSettings",
    "GpuFactors",
    "GpuFactorsSettings",
    "Trust",
    "TrustSettings",
]
