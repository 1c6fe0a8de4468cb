//! The data set, inside the binary. Source and licence: `data/README.md`.

use bytes::Bytes;

use super::check::Given;

const FLIGHTS: &str = include_str!("../../data/flights.csv");

/// The first `most` flights in their order: key is the airport of departure,
/// value the whole row.
pub(super) fn flights(most: usize) -> Vec<Given> {
    let rows = FLIGHTS.lines().skip(1).take(most);
    rows.map(|row| {
        let origin = row.split(',').nth(1).unwrap_or_default();
        Given {
            key: Bytes::from_static(origin.as_bytes()),
            value: Bytes::from_static(row.as_bytes()),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_data_set_is_what_its_readme_says() {
        let rows = flights(usize::MAX);
        assert_eq!(rows.len(), 20_000);
        let keys: BTreeSet<&Bytes> = rows.iter().map(|row| &row.key).collect();
        assert_eq!(keys.len(), 220);
        assert!(keys.iter().all(|key| key.len() == 3));
        assert_eq!(flights(7).len(), 7);
    }
}
