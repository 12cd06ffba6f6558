//! Time of a program: overhead + max(FLOPs / peak, bytes / bandwidth).

use crate::chips::Chip;

/// The roofline of a chip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roofline {
    /// Time of a dispatch that does nothing, in microseconds.
    pub overhead_us: f64,
    /// Peak, in FLOP/s.
    pub peak: f64,
    /// FLOPs below which the peak is not reached, and the exponent with which it falls off.
    pub ramp: Option<(f64, f64)>,
    /// Bandwidth, in B/s.
    pub bandwidth: f64,
    /// Where the numbers come from, in a sentence.
    pub source: &'static str,
}

/// M1, M2 Pro and M5 Pro as ANEForge 0.4.0 fitted them.
const M1: Roofline = Roofline {
    overhead_us: 220.0,
    peak: 3.25e12,
    ramp: None,
    bandwidth: 9e9,
    source: "Times are by the roofline that was fitted on an M1.",
};
const M2_PRO: Roofline = Roofline {
    overhead_us: 100.0,
    peak: 7.3e12,
    ramp: Some((1.8e10, 0.38)),
    bandwidth: 48e9,
    source: "Times are by the roofline that was fitted on an M2 Pro.",
};
const M5_PRO: Roofline = Roofline {
    overhead_us: 110.0,
    peak: 8.9e12,
    ramp: None,
    bandwidth: 57e9,
    source: "Times are by the roofline that was fitted on an M5 Pro.",
};

impl Roofline {
    /// That of a chip. M3 and M4 lie on the line between M2 Pro and M5 Pro by generation; M6 has the overhead of M5
    /// Pro, its peak times 20.6 / 12.2, as the published peaks of the two are, and its bandwidth.
    pub fn of(chip: Chip) -> Roofline {
        match chip {
            Chip::M1 => M1,
            Chip::M2 => M2_PRO,
            Chip::M3 => between(1.0 / 3.0),
            Chip::M4 => between(2.0 / 3.0),
            Chip::M5 => M5_PRO,
            Chip::M6 => Roofline {
                peak: M5_PRO.peak * 20.6 / 12.2,
                source: "Times are extrapolated to the M6 from an M5 Pro, by the published peaks.",
                ..M5_PRO
            },
        }
    }

    /// The estimated time of a program, in milliseconds.
    pub fn milliseconds(&self, flops: u64, bytes: u64) -> f64 {
        let flops = flops as f64;
        let reached = self.ramp.map_or(1.0, |(full, exponent)| (flops / full).powf(exponent).min(1.0));
        let compute = if flops > 0.0 { flops / (self.peak * reached) } else { 0.0 };
        self.overhead_us * 1e-3 + compute.max(bytes as f64 / self.bandwidth) * 1e3
    }
}

/// The roofline at a part of the way from M2 Pro to M5 Pro.
fn between(part: f64) -> Roofline {
    let mix = |from: f64, to: f64| from + (to - from) * part;
    Roofline {
        overhead_us: mix(M2_PRO.overhead_us, M5_PRO.overhead_us),
        peak: mix(M2_PRO.peak, M5_PRO.peak),
        ramp: None,
        bandwidth: mix(M2_PRO.bandwidth, M5_PRO.bandwidth),
        source: "Times are interpolated between an M2 Pro and an M5 Pro.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_overhead_and_the_longer_of_computing_and_moving() {
        assert!((Roofline::of(Chip::M1).milliseconds(0, 9_000_000) - 1.22).abs() < 1e-9);
        assert!((Roofline::of(Chip::M5).milliseconds(8_900_000_000, 0) - 1.11).abs() < 1e-9);
        let half = 0.5f64.powf(0.38);
        let expected = 0.1 + 9e9 / (7.3e12 * half) * 1e3;
        assert!((Roofline::of(Chip::M2).milliseconds(9_000_000_000, 0) - expected).abs() < 1e-9);
        assert_eq!(Roofline::of(Chip::M2).milliseconds(0, 0), 0.1);
    }
}
