//! Public keys of others: JWK sets (RFC 7517) as identity providers publish them.
//!
//! A key that we cannot or will not use does not spoil the set (RFC 7517 §5): it is left
//! out, with the reason, and a token that it signed is refused as [`AuthError::UnknownKey`].

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::{Map, Value};

use crate::error::AuthError;
use crate::jose::{Algorithm, KID_BYTES_MAX};
use crate::json;

/// Longest JWK set. One with 64 RSA keys and their certificates takes about 200 KiB.
pub const SET_BYTES_MAX: usize = 256 * 1024;

/// Most keys of a set. Large providers publish about ten.
pub const SET_KEYS_MAX: usize = 64;

/// Smallest RSA modulus (RFC 7518 §3.3), in bits.
pub const RSA_BITS_MIN: usize = 2048;

/// Largest RSA modulus. The time of a check grows with its square; 4096 bits are the
/// largest that providers offer.
pub const RSA_BYTES_MAX: usize = 512;

/// Longest RSA public exponent: ring takes those below 2^33.
const RSA_EXPONENT_BYTES_MAX: usize = 5;

/// A key that checks signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(Material);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa { n: Box<[u8]>, e: Box<[u8]> },
    /// Uncompressed point: 4, x, y.
    P256(Box<[u8]>),
    /// The same on P-384.
    P384(Box<[u8]>),
    /// RFC 8032 §5.1.5.
    Ed25519([u8; 32]),
}

impl PublicKey {
    /// Whether a signature of this key can carry that algorithm.
    #[must_use]
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        match &self.0 {
            Material::Rsa { .. } => {
                matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512)
            }
            Material::P256(_) => algorithm == Es256,
            Material::P384(_) => algorithm == Es384,
            Material::Ed25519(_) => algorithm == EdDsa,
        }
    }

    /// Checks that `signature` is this key's over `signed`.
    ///
    /// # Errors
    /// [`AuthError::WrongAlgorithm`] when the key is of another kind;
    /// [`AuthError::BadSignature`].
    pub fn verify(
        &self,
        algorithm: Algorithm,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), AuthError> {
        if !self.fits(algorithm) {
            return Err(AuthError::WrongAlgorithm);
        }
        let fixed = |how: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(how, key).verify(signed, signature)
        };
        let checked = match &self.0 {
            Material::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(rsa(algorithm), signed, signature)
            }
            Material::P256(point) => fixed(&ECDSA_P256_SHA256_FIXED, point),
            Material::P384(point) => fixed(&ECDSA_P384_SHA384_FIXED, point),
            Material::Ed25519(key) => fixed(&ED25519, key),
        };
        checked.map_err(|_| AuthError::BadSignature)
    }
}

fn rsa(algorithm: Algorithm) -> &'static RsaParameters {
    match algorithm {
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        Algorithm::Rs256 | Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => {
            &signature::RSA_PKCS1_2048_8192_SHA256
        }
    }
}

/// Why a key of a set is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// A shared secret: whoever can check with it can sign with it.
    #[error("a symmetric key is not taken from anybody")]
    Symmetric,
    /// Its private half is published with it, so its signatures prove nothing.
    #[error("its private part is published with it")]
    Private,
    /// A kind of key, or a curve, that is not known here.
    #[error("its type or curve is not known")]
    UnknownType,
    /// Published for something other than checking signatures.
    #[error("it is not for checking signatures")]
    OtherUse,
    /// It is bound to an algorithm that is unknown or does not belong to it.
    #[error("its algorithm is unknown or does not belong to it")]
    OtherAlgorithm,
    /// An RSA modulus of `bits` bits, outside 2048 to 4096.
    #[error("an RSA modulus of {bits} bits; 2048 to 4096 are taken")]
    Size {
        /// Length without leading zeros.
        bits: usize,
    },
    /// Another usable key of the set has the same name, so neither can be told from it.
    #[error("two keys of the set have this name")]
    SameName,
    /// A member is missing, of another type or not in its one encoding.
    #[error("'{member}' is missing or malformed")]
    Member {
        /// Its name.
        member: &'static str,
    },
}

/// Why a whole set was refused. Whoever had keys before keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Longer than [`SET_BYTES_MAX`].
    #[error("longer than {SET_BYTES_MAX} bytes")]
    TooLarge,
    /// Not an object with an array `keys` of objects, or one that names something twice.
    #[error("not a JWK set")]
    Malformed,
    /// More than [`SET_KEYS_MAX`].
    #[error("{keys} keys; at most {SET_KEYS_MAX} are taken")]
    TooMany {
        /// How many there are.
        keys: usize,
    },
}

#[derive(Debug)]
struct Named {
    kid: Option<Box<str>>,
    /// The one algorithm that the set binds the key to, if it does.
    only: Option<Algorithm>,
    key: PublicKey,
}

/// The usable keys of one issuer.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Named>,
    refused: Vec<(Option<Box<str>>, KeyRefusal)>,
}

impl KeySet {
    /// Reads a set.
    ///
    /// # Errors
    /// See [`KeySetError`]. A key that is not usable is no error: see [`KeySet::refused`].
    pub fn parse(bytes: &[u8]) -> Result<Self, KeySetError> {
        if bytes.len() > SET_BYTES_MAX {
            return Err(KeySetError::TooLarge);
        }
        let mut set = json::object(bytes).map_err(|_| KeySetError::Malformed)?;
        let Some(Value::Array(keys)) = set.remove("keys") else {
            return Err(KeySetError::Malformed);
        };
        if keys.len() > SET_KEYS_MAX {
            return Err(KeySetError::TooMany { keys: keys.len() });
        }
        let mut set = Self::default();
        for key in &keys {
            let Value::Object(members) = key else {
                return Err(KeySetError::Malformed);
            };
            // A name that no token can have is not kept.
            let kid = members.get("kid").and_then(Value::as_str);
            let kid = kid.filter(|kid| kid.len() <= KID_BYTES_MAX).map(Box::from);
            match read_key(members) {
                Ok((only, key)) => set.keys.push(Named { kid, only, key }),
                Err(why) => set.refused.push((kid, why)),
            }
        }
        set.leave_out_namesakes();
        Ok(set)
    }

    /// Of several usable keys with one name none is used: which one was meant would depend
    /// on the reader. Sets are small, so comparing all with all is cheap.
    fn leave_out_namesakes(&mut self) {
        let names: Vec<_> = self.keys.iter().filter_map(|key| key.kid.clone()).collect();
        let twice = |key: &mut Named| {
            let same = names.iter().filter(|name| key.kid.as_ref() == Some(*name));
            same.count() > 1
        };
        for key in self.keys.extract_if(.., twice) {
            self.refused.push((key.kid, KeyRefusal::SameName));
        }
    }

    /// The key of that name for that algorithm. A token without a name is checked only
    /// where one single key can have signed it (OpenID Connect Core §10.1).
    ///
    /// # Errors
    /// [`AuthError::UnknownKey`]; [`AuthError::WrongAlgorithm`] when the key has the name
    /// but is of another kind.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&PublicKey, AuthError> {
        let usable = |named: &Named| {
            named.key.fits(algorithm) && named.only.is_none_or(|only| only == algorithm)
        };
        if let Some(kid) = kid {
            let mut keys = self.keys.iter();
            let named = keys.find(|named| named.kid.as_deref() == Some(kid));
            let named = named.ok_or(AuthError::UnknownKey)?;
            return if usable(named) {
                Ok(&named.key)
            } else {
                Err(AuthError::WrongAlgorithm)
            };
        }
        let mut candidates = self.keys.iter().filter(|named| usable(named));
        match (candidates.next(), candidates.next()) {
            (Some(only), None) => Ok(&only.key),
            _ => Err(AuthError::UnknownKey),
        }
    }

    /// Whether the set names that key, be it usable or not: then the issuer has said about
    /// it what there is to say.
    #[must_use]
    pub fn names(&self, kid: &str) -> bool {
        let usable = self.keys.iter().map(|named| &named.kid);
        let refused = self.refused.iter().map(|(name, _)| name);
        usable
            .chain(refused)
            .any(|name| name.as_deref() == Some(kid))
    }

    /// Usable keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is usable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Names of the keys that were left out, and why: for the operator who wonders.
    pub fn refused(&self) -> impl Iterator<Item = (Option<&str>, KeyRefusal)> {
        self.refused.iter().map(|(kid, why)| (kid.as_deref(), *why))
    }
}

/// Private members of RSA, EC and OKP keys (RFC 7518 §6.2.2, §6.3.2; RFC 8037 §2).
const PRIVATE_MEMBERS: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

fn read_key(key: &Map<String, Value>) -> Result<(Option<Algorithm>, PublicKey), KeyRefusal> {
    if let Some(kid) = key.get("kid") {
        let fits = |kid: &str| kid.len() <= KID_BYTES_MAX;
        if !kid.as_str().is_some_and(fits) {
            return Err(KeyRefusal::Member { member: "kid" });
        }
    }
    let kty = text(key, "kty")?;
    if kty == "oct" || key.contains_key("k") {
        return Err(KeyRefusal::Symmetric);
    }
    if PRIVATE_MEMBERS.iter().any(|name| key.contains_key(*name)) {
        return Err(KeyRefusal::Private);
    }
    if key.get("use").is_some_and(|purpose| purpose != "sig") {
        return Err(KeyRefusal::OtherUse);
    }
    if let Some(operations) = key.get("key_ops") {
        let operations = operations.as_array();
        let operations = operations.ok_or(KeyRefusal::Member { member: "key_ops" })?;
        if !operations.iter().any(|one| one == "verify") {
            return Err(KeyRefusal::OtherUse);
        }
    }
    let material = match kty {
        "RSA" => read_rsa(key)?,
        "EC" => match text(key, "crv")? {
            "P-256" => Material::P256(read_point(key, 32)?),
            "P-384" => Material::P384(read_point(key, 48)?),
            _ => return Err(KeyRefusal::UnknownType),
        },
        "OKP" if text(key, "crv")? == "Ed25519" => {
            let x = octets(key, "x", 32)?;
            let x = x.try_into();
            Material::Ed25519(x.map_err(|_| KeyRefusal::Member { member: "x" })?)
        }
        _ => return Err(KeyRefusal::UnknownType),
    };
    let public = PublicKey(material);
    let only = match key.get("alg") {
        None => None,
        Some(Value::String(name)) => {
            let algorithm = Algorithm::parse(name).filter(|one| public.fits(*one));
            Some(algorithm.ok_or(KeyRefusal::OtherAlgorithm)?)
        }
        Some(_) => return Err(KeyRefusal::Member { member: "alg" }),
    };
    Ok((only, public))
}

fn read_rsa(key: &Map<String, Value>) -> Result<Material, KeyRefusal> {
    let e = octets(key, "e", RSA_EXPONENT_BYTES_MAX)?;
    // Room for twice the largest, so that an honest large one is told its size.
    let n = octets(key, "n", 2 * RSA_BYTES_MAX)?;
    for (member, bytes) in [("n", &n), ("e", &e)] {
        // RFC 7518 §2, Base64urlUInt: the minimum number of octets.
        if bytes.first().is_none_or(|&first| first == 0) {
            return Err(KeyRefusal::Member { member });
        }
    }
    let bits = n.len() * 8 - n[0].leading_zeros() as usize;
    if !(RSA_BITS_MIN..=RSA_BYTES_MAX * 8).contains(&bits) {
        return Err(KeyRefusal::Size { bits });
    }
    Ok(Material::Rsa {
        n: n.into(),
        e: e.into(),
    })
}

/// An uncompressed point (SEC 1 §2.3.3). Whether it lies on the curve is checked by each
/// use of it.
fn read_point(key: &Map<String, Value>, bytes: usize) -> Result<Box<[u8]>, KeyRefusal> {
    let mut point = vec![4];
    for member in ["x", "y"] {
        let coordinate = octets(key, member, bytes)?;
        // RFC 7518 §6.2.1.2: the full size of the field.
        if coordinate.len() != bytes {
            return Err(KeyRefusal::Member { member });
        }
        point.extend(coordinate);
    }
    Ok(point.into())
}

fn text<'a>(key: &'a Map<String, Value>, member: &'static str) -> Result<&'a str, KeyRefusal> {
    let value = key.get(member).and_then(Value::as_str);
    value.ok_or(KeyRefusal::Member { member })
}

fn octets(
    key: &Map<String, Value>,
    member: &'static str,
    limit: usize,
) -> Result<Vec<u8>, KeyRefusal> {
    let encoded = text(key, member)?;
    let decoded = URL_SAFE_NO_PAD.decode(encoded).ok();
    let decoded = decoded.filter(|bytes| bytes.len() <= limit);
    decoded.ok_or(KeyRefusal::Member { member })
}
