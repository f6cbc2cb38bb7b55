//! What a setting that is out of range is told with.

use super::*;

#[test]
fn a_setting_out_of_range_is_named_as_its_method_and_with_its_value() {
    let default = Settings::default;
    let secs = Duration::from_secs;
    let table = [
        (
            Settings {
                workers: 0,
                ..default()
            },
            "`workers` is out of range: 0; choose 1 to 10,000",
        ),
        (
            Settings {
                batch_size: 10_001,
                ..default()
            },
            "`batch_size` is out of range: 10001; choose 1 to 10,000",
        ),
        (
            Settings {
                lease: Duration::from_millis(99),
                ..default()
            },
            "`lease` is out of range: 99ms; choose 100 ms to 24 h",
        ),
        (
            Settings {
                poll_interval: secs(3601),
                ..default()
            },
            "`poll_interval` is out of range: 3601s; choose 1 ms to 1 h",
        ),
        (
            Settings {
                call_timeout: secs(40),
                ..default()
            },
            "`call_timeout` is out of range: 40s, with a lease of 30s; choose more than zero and at \
             most the lease",
        ),
        (
            Settings {
                retention: Retention::default().every(Duration::ZERO),
                ..default()
            },
            "`Retention::every` is out of range: 0ns; choose 1 s to 30 days",
        ),
        (
            Settings {
                retention: Retention::default().batch(0),
                ..default()
            },
            "`Retention::batch` is out of range: 0; choose 1 to 10,000",
        ),
    ];
    for (settings, told) in table {
        let refused = settings.check().unwrap_err().to_string();
        assert_eq!(refused, format!("the scheduler's setting {told}"));
    }
    let longest = Settings {
        call_timeout: Settings::DEFAULT_LEASE,
        ..default()
    };
    assert_eq!(longest.check(), Ok(()));
}
