//! Which bin a number of one feature falls into. Bin i holds what is over edge i - 1 and at or under edge i, as singles; what is no number
//! falls into the last.

/// Edges that are compared all at once, with one to spare for infinity: one that every number is at or under.
const LANES: usize = 24;

type Lanes<T> = [T; LANES];

/// The edges of a feature, ascending.
pub enum Levels {
    /// Few enough to compare each value with all of them, which is faster than to look for its place.
    Coarse(usize, Lanes<f32>),
    Fine(Vec<f32>),
}

/// What was counted of a feature: per bin, or, until it is settled, how many values were at or under each edge. Those are counted in 32 bits.
pub struct Counted {
    bins: Vec<u64>,
    under: Lanes<u32>,
    unsettled: u32,
}

impl Levels {
    pub fn new(edges: Vec<f32>) -> Self {
        if edges.len() >= LANES {
            return Levels::Fine(edges);
        }
        let mut padded = [f32::INFINITY; LANES];
        padded[..edges.len()].copy_from_slice(&edges);
        Levels::Coarse(edges.len(), padded)
    }

    pub fn nothing(&self) -> Counted {
        let edges = match self {
            Levels::Coarse(edges, ..) => *edges,
            Levels::Fine(edges) => edges.len(),
        };
        Counted { bins: vec![0; edges + 2], under: [0; LANES], unsettled: 0 }
    }

    /// Count these values, of which there are less than 2^31.
    pub fn count(&self, values: impl ExactSizeIterator<Item = f32>, counted: &mut Counted) {
        match self {
            Levels::Coarse(_, edges) => {
                if counted.unsettled > u32::MAX / 2 {
                    counted.settle();
                }
                counted.unsettled += values.len() as u32;
                add_under(values, edges, &mut counted.under);
            }
            Levels::Fine(edges) => {
                let missing = edges.len() + 1;
                for value in values {
                    let bin = if value.is_nan() { missing } else { edges.partition_point(|edge| *edge < value) };
                    counted.bins[bin] += 1;
                }
            }
        }
    }
}

impl Counted {
    /// How many values fell into each bin so far.
    pub fn bins(&mut self) -> &[u64] {
        self.settle();
        &self.bins
    }

    fn settle(&mut self) {
        let number = std::mem::take(&mut self.unsettled);
        if number == 0 {
            return;
        }
        let under = std::mem::replace(&mut self.under, [0; LANES]);
        let missing = self.bins.len() - 1;
        let mut before = 0;
        // The lane after the edges has all values but those that are no numbers.
        for (bin, under) in self.bins[..missing].iter_mut().zip(under) {
            *bin += u64::from(under - before);
            before = under;
        }
        self.bins[missing] += u64::from(number - before);
    }
}

/// Add to `under`, for each edge, how many of the values are at or under it.
#[inline]
fn add_under(values: impl Iterator<Item = f32>, edges: &Lanes<f32>, under: &mut Lanes<u32>) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { add_under_avx2(values, edges, under) };
    }
    add_under_anywhere(values, edges, under);
}

fn add_under_anywhere(values: impl Iterator<Item = f32>, edges: &Lanes<f32>, under: &mut Lanes<u32>) {
    for value in values {
        for (under, edge) in under.iter_mut().zip(edges) {
            *under += u32::from(value <= *edge);
        }
    }
}

/// The same with an edge in each lane of three registers, which no compiler makes of it.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[allow(clippy::cast_ptr_alignment, reason = "what loads and stores these registers takes any address")]
fn add_under_avx2(values: impl Iterator<Item = f32>, edges: &Lanes<f32>, under: &mut Lanes<u32>) {
    use std::arch::x86_64::{
        __m256, __m256i, _CMP_LE_OQ, _mm256_castps_si256, _mm256_cmp_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_set1_ps,
        _mm256_storeu_si256, _mm256_sub_epi32,
    };
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add(sums: __m256i, value: __m256, edges: __m256) -> __m256i {
        // What compares as true is minus one.
        _mm256_sub_epi32(sums, _mm256_castps_si256(_mm256_cmp_ps::<_CMP_LE_OQ>(value, edges)))
    }
    let (edges, under) = (edges.as_ptr(), under.as_mut_ptr().cast::<__m256i>());
    // SAFETY: both have `LANES` numbers of 32 bits, which are three registers of eight, wherever they are in memory.
    unsafe {
        let [first, second, third] = [_mm256_loadu_ps(edges), _mm256_loadu_ps(edges.add(8)), _mm256_loadu_ps(edges.add(16))];
        let mut sums = (_mm256_loadu_si256(under), _mm256_loadu_si256(under.add(1)), _mm256_loadu_si256(under.add(2)));
        for value in values {
            let value = _mm256_set1_ps(value);
            sums = (add(sums.0, value, first), add(sums.1, value, second), add(sums.2, value, third));
        }
        _mm256_storeu_si256(under, sums.0);
        _mm256_storeu_si256(under.add(1), sums.1);
        _mm256_storeu_si256(under.add(2), sums.2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bin of each value, found by looking at every edge.
    fn slowly(edges: &[f32], values: &[f32]) -> Vec<u64> {
        let mut bins = vec![0; edges.len() + 2];
        for value in values {
            let place = edges.iter().position(|edge| value <= edge).unwrap_or(edges.len());
            bins[if value.is_nan() { edges.len() + 1 } else { place }] += 1;
        }
        bins
    }

    fn counted(edges: &[f32], values: &[f32]) -> Vec<u64> {
        let levels = Levels::new(edges.to_vec());
        let mut counted = levels.nothing();
        for part in values.chunks(7) {
            levels.count(part.iter().copied(), &mut counted);
        }
        counted.bins().to_vec()
    }

    #[test]
    fn every_value_falls_where_a_search_would_put_it() {
        let mut values: Vec<f32> = (-400..400).map(|step| step as f32 / 7.0).collect();
        values.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0, f32::MIN_POSITIVE, -1e-45, -f32::NAN]);
        for number in [0, 1, 2, 19, LANES - 1, LANES, 100] {
            let edges: Vec<f32> = (0..number).map(|edge| edge as f32 - 5.0).collect();
            assert_eq!(counted(&edges, &values), slowly(&edges, &values), "{number} edges");
        }
    }

    #[test]
    fn edges_that_coincide_or_are_infinite_as_singles_are_edges_all_the_same() {
        let edges = [1.0, 1.0, f32::INFINITY];
        let values = [0.5, 1.0, 2.0, f32::INFINITY, f32::NAN];
        assert_eq!(counted(&edges, &values), slowly(&edges, &values));
    }

    #[test]
    fn what_is_compared_all_at_once_is_settled_before_it_overflows() {
        let levels = Levels::new(vec![0.0]);
        let mut counted = levels.nothing();
        let almost = u32::MAX / 2;
        (counted.under, counted.unsettled) = ([almost; LANES], almost);
        for _ in 0..3 {
            levels.count([-1.0, f32::NAN].into_iter(), &mut counted);
        }
        assert_eq!(counted.bins(), [u64::from(almost) + 3, 0, 3]);
    }

    #[test]
    fn processors_with_and_without_wide_registers_count_alike() {
        let edges: Lanes<f32> = std::array::from_fn(|edge| edge as f32 / 10.0);
        let values: Vec<f32> = (0..1000).map(|step| step as f32 / 400.0).collect();
        let (mut plain, mut chosen) = ([0; LANES], [0; LANES]);
        add_under_anywhere(values.iter().copied(), &edges, &mut plain);
        add_under(values.iter().copied(), &edges, &mut chosen);
        assert_eq!(plain, chosen);
    }
}
