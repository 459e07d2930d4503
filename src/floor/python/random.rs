//! CPython's `random.Random`: Mersenne Twister (Matsumoto and Nishimura 1998) with its library's seeding and sampling.

const N: usize = 624;
const M: usize = 397;

/// A generator with CPython's state.
#[derive(Debug, Clone)]
pub struct PythonRandom {
    state: [u32; N],
    at: usize,
}

impl PythonRandom {
    /// `Random(seed)` for an integer.
    pub fn new(seed: u64) -> Self {
        let low = seed as u32;
        let high = (seed >> 32) as u32;
        let key = if high == 0 { vec![low] } else { vec![low, high] };
        Self::from_key(&key)
    }

    /// `init_by_array` over 32-bit words, the lowest first.
    fn from_key(key: &[u32]) -> Self {
        let mut state = [0u32; N];
        state[0] = 19_650_218;
        for n in 1..N {
            let last = state[n - 1];
            state[n] = 1_812_433_253u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(n as u32);
        }
        let (mut i, mut j) = (1, 0);
        for _ in 0..N.max(key.len()) {
            let last = state[i - 1];
            let mixed = (last ^ (last >> 30)).wrapping_mul(1_664_525);
            state[i] = (state[i] ^ mixed).wrapping_add(key[j]).wrapping_add(j as u32);
            i += 1;
            j += 1;
            if i >= N {
                state[0] = state[N - 1];
                i = 1;
            }
            if j >= key.len() {
                j = 0;
            }
        }
        for _ in 0..N - 1 {
            let last = state[i - 1];
            let mixed = (last ^ (last >> 30)).wrapping_mul(1_566_083_941);
            state[i] = (state[i] ^ mixed).wrapping_sub(i as u32);
            i += 1;
            if i >= N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        state[0] = 0x8000_0000;
        Self { state, at: N }
    }

    fn twist(&mut self) {
        for n in 0..N {
            let y = (self.state[n] & 0x8000_0000) | (self.state[(n + 1) % N] & 0x7FFF_FFFF);
            let odd = if y & 1 == 1 { 0x9908_B0DF } else { 0 };
            self.state[n] = self.state[(n + M) % N] ^ (y >> 1) ^ odd;
        }
        self.at = 0;
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.at >= N {
            self.twist();
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9D2C_5680;
        y ^= (y << 15) & 0xEFC6_0000;
        y ^ (y >> 18)
    }

    /// `random()`: 53 random bits in [0, 1).
    pub fn random(&mut self) -> f64 {
        let (high, low) = (f64::from(self.bits() >> 5), f64::from(self.bits() >> 6));
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    /// `_randbelow(n)`: the top bits of a draw, redrawn until they are below n (0 < n ≤ 2³²).
    pub fn below(&mut self, n: usize) -> usize {
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let drawn = if bits > 32 { self.bits() as usize } else { (self.bits() >> (32 - bits)) as usize };
            if drawn < n {
                return drawn;
            }
        }
    }

    /// `sample(range(n), k)`: k distinct numbers below n, in draw order. `None` if k > n.
    pub fn sample(&mut self, n: usize, k: usize) -> Option<Vec<usize>> {
        if k > n {
            return None;
        }
        let mut set_size = 21;
        if k > 5 {
            let mut power = 1;
            while power < 3 * k {
                power *= 4;
            }
            set_size += power;
        }
        if n <= set_size {
            let mut pool: Vec<usize> = (0..n).collect();
            return Some(
                (0..k)
                    .map(|i| {
                        let j = self.below(n - i);
                        let drawn = pool[j];
                        pool[j] = pool[n - i - 1];
                        drawn
                    })
                    .collect(),
            );
        }
        let mut drawn = Vec::with_capacity(k);
        while drawn.len() < k {
            let j = self.below(n);
            if !drawn.contains(&j) {
                drawn.push(j);
            }
        }
        Some(drawn)
    }

    /// `shuffle(items)`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i + 1);
            items.swap(i, j);
        }
    }

    /// `choices(range(n), k=k)`: with replacement.
    pub fn choices(&mut self, n: usize, k: usize) -> Vec<usize> {
        (0..k).map(|_| (self.random() * n as f64) as usize).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_those_of_cpython() {
        let mut random = PythonRandom::new(1234);
        assert_eq!(
            [random.bits(), random.bits(), random.bits()],
            [4_150_886_329, 3_342_196_574, 1_892_932_127]
        );
        let mut random = PythonRandom::new(1234);
        assert_eq!([random.random(), random.random()], [0.966_453_535_692_138_8, 0.440_732_599_175_352_7]);
    }

    #[test]
    fn samples_are_those_of_cpython() {
        let mut random = PythonRandom::new(1234);
        assert_eq!(random.sample(2000, 6).unwrap(), [1979, 1593, 902, 239, 15, 185]);
        assert_eq!(random.sample(2000, 6).unwrap(), [1865, 1930, 1923, 1652, 1192, 71]);
        assert_eq!(PythonRandom::new(1234).sample(10, 6).unwrap(), [7, 1, 0, 9, 4, 6]);
        assert_eq!(PythonRandom::new(1234).sample(86, 6).unwrap(), [56, 14, 0, 11, 74, 4]);
        assert_eq!(PythonRandom::new(1234).sample(3, 4), None);
    }

    #[test]
    fn shuffles_and_choices_are_those_of_cpython() {
        assert_eq!(PythonRandom::new(0).choices(5, 5), [4, 3, 2, 1, 2]);
        for (seed, first, second) in [(0, [2, 0, 1, 3], [0, 1, 3, 2]), (42, [2, 1, 3, 0], [3, 2, 0, 1])] {
            let mut random = PythonRandom::new(seed);
            for expected in [first, second] {
                let mut items = [0, 1, 2, 3];
                random.shuffle(&mut items);
                assert_eq!(items, expected, "{seed}");
            }
        }
    }
}
