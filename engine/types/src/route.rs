//! Key → partition. Clients in every language compute the same number.

use xxhash_rust::xxh64::xxh64;

use crate::PartitionId;

/// Partition of `key` in a resource of `shards` partitions: XXH64 with seed 0,
/// modulo `shards`.
///
/// # Panics
/// When `shards` is 0; a resource has at least one.
#[must_use]
pub fn partition_of(key: &[u8], shards: u16) -> PartitionId {
    assert!(shards > 0, "a resource has at least one shard");
    if shards == 1 {
        return PartitionId(0);
    }
    let index = xxh64(key, 0) % u64::from(shards);
    PartitionId(u16::try_from(index).expect("a remainder of a u16 fits it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_xxh64() {
        // Vectors of the xxHash specification, seed 0.
        assert_eq!(xxh64(b"", 0), 0xef46_db37_51d8_e999);
        assert_eq!(xxh64(b"a", 0), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(partition_of(b"a", 4), PartitionId(3));
    }
}
