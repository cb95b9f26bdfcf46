//! The providers of S3 servers that we know by name.

use std::str::FromStr;

use serde::Deserialize;

/// Whose server it is; what they can do differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Provider {
    /// Amazon S3.
    Aws,
    /// Cloudflare R2.
    R2,
    /// Backblaze B2.
    B2,
    /// DigitalOcean Spaces.
    DigitalOcean,
    /// Hetzner Object Storage.
    Hetzner,
    /// Scaleway Object Storage.
    Scaleway,
    /// Wasabi.
    Wasabi,
    /// MinIO and servers like it.
    Minio,
    /// Garage.
    Garage,
    /// Ceph's object gateway.
    Ceph,
    /// Anything else: careful defaults.
    Other,
}

impl Provider {
    /// All, with the names that options use.
    pub const NAMED: [(&'static str, Self); 11] = [
        ("aws", Self::Aws),
        ("r2", Self::R2),
        ("b2", Self::B2),
        ("digitalocean", Self::DigitalOcean),
        ("hetzner", Self::Hetzner),
        ("scaleway", Self::Scaleway),
        ("wasabi", Self::Wasabi),
        ("minio", Self::Minio),
        ("garage", Self::Garage),
        ("ceph", Self::Ceph),
        ("other", Self::Other),
    ];
}

impl FromStr for Provider {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::NAMED.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        found.map(|(_, provider)| *provider).ok_or_else(|| {
            let names: Vec<_> = Self::NAMED.iter().map(|(name, _)| *name).collect();
            format!("{text:?} is no known provider; there are {}", names.join(", "))
        })
    }
}

impl TryFrom<String> for Provider {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
