//! What the known providers can and cannot do, and how to tell them by their addresses.
//!
//! Only what changes our requests stands here; everything else is found out by asking
//! (`probe`).

use crate::config::provider::Provider;

/// How a provider is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// Whose server it is.
    pub provider: Provider,
    /// Most parts of one upload on their way at the same time.
    pub parts_at_once: usize,
    /// All parts but the last must have one size.
    pub equal_parts: bool,
    /// Whether `If-None-Match: *` is sent. Where it is, a refusal (501) turns it off.
    pub conditional_writes: bool,
    /// Whether ETags of unencrypted objects and parts are MD5 sums.
    pub etags_are_sums: bool,
    /// Whether new uploads ask for checksums; a store that does not promise them is taken at its
    /// ETags all the same.
    pub checksums: bool,
    /// The bucket must stand in the path, whatever the options say.
    pub path_style: bool,
    /// What an operator should know about it; one sentence, or empty.
    pub note: &'static str,
}

const CAREFUL: Profile = Profile {
    provider: Provider::Other,
    parts_at_once: 4,
    equal_parts: false,
    conditional_writes: true,
    etags_are_sums: true,
    checksums: false,
    path_style: false,
    note: "",
};

/// The profile of a provider.
pub(super) fn of(provider: Provider) -> Profile {
    let base = Profile { provider, ..CAREFUL };
    match provider {
        Provider::R2 => Profile {
            parts_at_once: 2,
            equal_parts: true,
            etags_are_sums: false,
            note: "R2 wants parts of one size, two or three at a time.",
            ..base
        },
        Provider::B2 => Profile {
            conditional_writes: false,
            path_style: true,
            note: "B2 has no conditional writes; it keeps old versions until a lifecycle rule \
                   removes them.",
            ..base
        },
        Provider::Wasabi => {
            Profile { note: "Wasabi bills deleted objects for their minimum time.", ..base }
        }
        Provider::Minio => Profile { path_style: true, checksums: true, ..base },
        Provider::Garage | Provider::Ceph => Profile { path_style: true, ..base },
        Provider::Aws | Provider::Other => Profile { checksums: true, ..base },
        Provider::DigitalOcean | Provider::Hetzner | Provider::Scaleway => base,
    }
}

/// Whose server stands at a host; [`Provider::Other`] where the name does not tell.
pub(super) fn provider_at(host: &str) -> Provider {
    const SUFFIXES: [(&str, Provider); 9] = [
        ("amazonaws.com", Provider::Aws),
        ("amazonaws.com.cn", Provider::Aws),
        ("r2.cloudflarestorage.com", Provider::R2),
        ("backblazeb2.com", Provider::B2),
        ("digitaloceanspaces.com", Provider::DigitalOcean),
        ("your-objectstorage.com", Provider::Hetzner),
        ("scw.cloud", Provider::Scaleway),
        ("wasabisys.com", Provider::Wasabi),
        ("min.io", Provider::Minio),
    ];
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let ends = |suffix: &str| {
        host.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let found = SUFFIXES.iter().find(|(suffix, _)| ends(suffix));
    found.map_or(Provider::Other, |(_, provider)| *provider)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_told_by_their_hosts() {
        for (host, provider) in [
            ("s3.eu-west-1.amazonaws.com", Provider::Aws),
            ("b.s3.cn-north-1.amazonaws.com.cn", Provider::Aws),
            ("0123abcd.r2.cloudflarestorage.com", Provider::R2),
            ("0123abcd.eu.r2.cloudflarestorage.com", Provider::R2),
            ("s3.us-west-004.backblazeb2.com", Provider::B2),
            ("fra1.digitaloceanspaces.com", Provider::DigitalOcean),
            ("fsn1.your-objectstorage.com", Provider::Hetzner),
            ("s3.fr-par.scw.cloud", Provider::Scaleway),
            ("S3.EU-Central-1.WasabiSys.com.", Provider::Wasabi),
            ("play.min.io", Provider::Minio),
            ("evilamazonaws.com", Provider::Other),
            ("amazonaws.com.evil.example", Provider::Other),
            ("127.0.0.1", Provider::Other),
        ] {
            assert_eq!(provider_at(host), provider, "{host}");
        }
    }
}
