//! The one source of randomness: a small seeded generator, the same on every machine.
//!
//! Initial weights, batches, the built-in text and sampling all draw from [`Random`], so a run is determined by
//! its seed. The generator is xoshiro256++ (Blackman and Vigna, "Scrambled linear pseudorandom number
//! generators", 2021), its state filled by SplitMix64 as its authors advise. It is not for cryptography.

/// One step of SplitMix64: advances `state` and returns the next 64 bits.
fn split_mix_64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A seeded pseudo-random number generator, xoshiro256++.
///
/// ```
/// use anemone_lm::random::Random;
/// let mut random = Random::new(7);
/// let roll = 1 + random.below(6);
/// assert!((1..=6).contains(&roll));
/// assert_eq!(Random::new(7).next_u64(), Random::new(7).next_u64());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The generator for a seed. Near seeds give unrelated sequences.
    pub fn new(seed: u64) -> Self {
        let mut mixer = seed;
        Self { state: std::array::from_fn(|_| split_mix_64(&mut mixer)) }
    }

    /// The generator number `stream` of a seed, for instance one for each training step: unrelated to the
    /// other streams, and found without running through them.
    pub fn stream(seed: u64, stream: u64) -> Self {
        let mut mixer = seed;
        let scrambled_seed = split_mix_64(&mut mixer);
        Self::new(scrambled_seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95).rotate_left(32))
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in `0..n`, each equally likely; 0 when `n` is 0. (Lemire, "Fast random integer generation in
    /// an interval", 2019.)
    pub fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        let mut product = u128::from(self.next_u64()) * u128::from(n);
        if (product as u64) < n {
            let threshold = n.wrapping_neg() % n;
            while (product as u64) < threshold {
                product = u128::from(self.next_u64()) * u128::from(n);
            }
        }
        (product >> 64) as usize
    }

    /// A number in [0, 1), a multiple of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A number from the standard normal distribution, mean 0 and variance 1 (Box–Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference outputs from the authors' C code, as the `rand_xoshiro` crate tests them.
    #[test]
    fn agrees_with_the_reference_implementations() {
        let mut random = Random { state: [1, 2, 3, 4] };
        let expected = [
            41943041,
            58720359,
            3588806011781223,
            3591011842654386,
            9228616714210784205,
            9973669472204895162,
            14011001112246962877,
            12406186145184390807,
            15849039046786891736,
            10450023813501588000,
        ];
        assert_eq!(expected.map(|_| random.next_u64()), expected);

        let mut state = 1234567;
        let expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431];
        assert_eq!(expected.map(|_| split_mix_64(&mut state)), expected);
    }

    #[test]
    fn below_is_uniform_and_in_range() {
        let mut random = Random::new(1);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[random.below(7)] += 1;
        }
        // Five standard deviations of a binomial count with mean 10 000.
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 470), "{counts:?}");
        assert_eq!(random.below(1), 0);
        assert_eq!(random.below(0), 0);
    }

    /// For n = 3/4 of all numbers, a remainder of 64 random bits would be below n/3 half of the time, and the upper
    /// half of their product with n divisible by 3 half of the time. Each third is as likely as the others.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn below_is_uniform_where_remainders_and_products_are_not() {
        let mut random = Random::new(4);
        let n = 3usize << 62;
        let (mut thirds, mut remainders) = ([0u32; 3], [0u32; 3]);
        for _ in 0..30_000 {
            let drawn = random.below(n);
            thirds[drawn >> 62] += 1;
            remainders[drawn % 3] += 1;
        }
        // Five standard deviations of a binomial count with mean 10 000.
        for counts in [thirds, remainders] {
            assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 410), "{counts:?}");
        }
    }

    #[test]
    fn uniform_and_normal_have_their_moments() {
        let mut random = Random::new(2);
        let n = 200_000_usize;
        let uniform: Vec<f64> = (0..n).map(|_| random.uniform()).collect();
        assert!(uniform.iter().all(|x| (0.0..1.0).contains(x)));
        assert!((uniform.iter().sum::<f64>() / n as f64 - 0.5).abs() < 0.004);
        let normal: Vec<f64> = (0..n).map(|_| random.normal()).collect();
        assert!(normal.iter().all(|x| x.is_finite()));
        assert!((normal.iter().sum::<f64>() / n as f64).abs() < 0.012);
        assert!((normal.iter().map(|x| x * x).sum::<f64>() / n as f64 - 1.0).abs() < 0.02);
        let beyond_two = normal.iter().filter(|x| x.abs() > 2.0).count() as f64 / n as f64;
        assert!((beyond_two - 0.0455).abs() < 0.003, "{beyond_two}");
    }

    #[test]
    fn streams_differ() {
        let mut firsts: Vec<u64> = (0..4)
            .flat_map(|seed| (0..1000).map(move |step| Random::stream(seed, step).next_u64()))
            .collect();
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts.len(), 4000);
    }
}
