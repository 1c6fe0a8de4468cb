//! Charts as they were looked at, byte for byte.

use std::path::Path;

use pinion_load::plot::{Distribution, LoadCurve, LoadPoint, by_load, percentiles};

/// Compares with the file that was looked at. What differs is left beside the
/// build for a look; copying it over is how a new look is accepted.
fn check(name: &str, svg: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let golden = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    if golden != svg {
        let found = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&found, svg).expect("the build can be written to");
        panic!("{name} looks different: see {}", found.display());
    }
}

fn distribution(name: &str, points: &[(f64, f64)]) -> Distribution {
    Distribution {
        name: name.to_owned(),
        points: points.to_vec(),
        max_us: points.last().map_or(0.0, |&(_, us)| us),
    }
}

#[test]
fn latencies_by_percentile() {
    let ours = [
        (0.0, 10.0),
        (0.5, 12.0),
        (0.9, 20.0),
        (0.99, 50.0),
        (0.999, 100.0),
    ];
    let theirs = [(0.0, 20.0), (0.5, 30.0), (0.9, 40.0), (0.99, 4000.0)];
    let curves = [
        distribution("ours", &ours),
        distribution("theirs & others", &theirs),
    ];
    let svg = percentiles("GET <100 B>", &curves).expect("two curves");
    check("percentiles.svg", &svg);
}

#[test]
fn latencies_by_load() {
    let point = |rate, p50_us, p99_us| LoadPoint {
        rate,
        p50_us,
        p99_us,
    };
    let curves = [
        LoadCurve {
            name: "ours".to_owned(),
            points: vec![
                point(1e5, 15.0, 40.0),
                point(5e5, 20.0, 60.0),
                point(1e6, 90.0, 3e3),
            ],
        },
        LoadCurve {
            name: "theirs".to_owned(),
            points: vec![point(5e4, 30.0, 50.0), point(2e5, 60.0, 200.0)],
        },
    ];
    let svg = by_load("GET under load", &curves).expect("four curves");
    check("by-load.svg", &svg);
}
