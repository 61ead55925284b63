//! Drawing an index by weight in constant time.

use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::RngCore};

/// Walker's alias method with Vose's construction (M. D. Vose, *IEEE Transactions on Software
/// Engineering* 17(9), 1991).
#[derive(Clone, Debug)]
pub(crate) struct AliasTable {
    /// (threshold of 2³², the index to take at or above it)
    columns: Vec<(u32, u32)>,
}

impl AliasTable {
    /// A table for indices `0..weights.len()`. Weights are positive, and there is at least one.
    pub(crate) fn new(weights: &[f64]) -> Self {
        let total: f64 = weights.iter().sum();
        let count = weights.len();
        #[expect(clippy::cast_precision_loss, reason = "a few thousand indices")]
        let mut share: Vec<f64> = weights.iter().map(|w| w / total * count as f64).collect();
        let mut columns = vec![(u32::MAX, 0); count];
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..count).partition(|&index| share[index] < 1.0);
        for (index, column) in columns.iter_mut().enumerate() {
            column.1 = as_u32(index);
        }
        while let (Some(less), Some(&more)) = (small.pop(), large.last()) {
            columns[less] = (threshold(share[less]), as_u32(more));
            share[more] -= 1.0 - share[less];
            if share[more] < 1.0 {
                large.pop();
                small.push(more);
            }
        }
        Self { columns }
    }

    /// One index, from one 64-bit number: its upper half picks a column, its lower half a side.
    #[inline]
    pub(crate) fn draw(&self, random: &mut Xoshiro256PlusPlus) -> usize {
        let bits = random.next_u64();
        let column = (((bits >> 32) * self.columns.len() as u64) >> 32) as usize;
        let (threshold, other) = self.columns[column];
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
        let side = bits as u32;
        if side < threshold { column } else { other as usize }
    }
}

fn threshold(share: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float cast saturates, and the share is within 0 and 1"
    )]
    let threshold = (share * 4_294_967_296.0) as u32;
    threshold
}

fn as_u32(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use rand_xoshiro::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn indices_come_in_proportion_to_their_weights() {
        let weights = [5.0, 1.0, 3.0, 0.5, 0.5];
        let table = AliasTable::new(&weights);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
        let mut drawn = [0_u32; 5];
        for _ in 0..200_000 {
            drawn[table.draw(&mut random)] += 1;
        }
        for (index, (weight, count)) in weights.iter().zip(drawn).enumerate() {
            let share = f64::from(count) / 200_000.0;
            assert!((share - weight / 10.0).abs() < 0.005, "index {index} came {share}");
        }
    }

    #[test]
    fn one_weight_is_always_drawn() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
        assert_eq!(AliasTable::new(&[0.1]).draw(&mut random), 0);
    }
}
