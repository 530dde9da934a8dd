//! A workload on the `spiffe` crate: one-shot calls, both sources, JWT validation, one rotation seen.
//! Expects SPIFFE_ENDPOINT_SOCKET, INTEROP_SPIFFE_ID, INTEROP_HINT; prints CHECK lines (see go/checks).

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use spiffe::{BundleSource, JwtSource, JwtSvid, SpiffeId, WorkloadApiClient, X509Source};

const AUDIENCE: &str = "rust-audience";
static FAILED: AtomicBool = AtomicBool::new(false);

type Outcome = Result<(), Box<dyn Error>>;

fn check(name: &str, outcome: Outcome) {
    match outcome {
        Ok(()) => println!("CHECK PASS {name}"),
        Err(error) => {
            FAILED.store(true, Ordering::Relaxed);
            println!("CHECK FAIL {name}: {}", error.to_string().replace('\n', " "));
        }
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, got: T, want: T) -> Outcome {
    if got == want {
        Ok(())
    } else {
        Err(format!("{what} is {got:?}, want {want:?}").into())
    }
}

fn refused<T, E>(result: Result<T, E>) -> Outcome {
    match result {
        Ok(_) => Err("it was accepted".into()),
        Err(_) => Ok(()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let seconds = env::var("INTEROP_TIMEOUT_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(90);
    match tokio::time::timeout(Duration::from_secs(seconds), run()).await {
        Ok(outcome) => check("program", outcome),
        Err(_) => check("program", Err(format!("not done in {seconds} s").into())),
    }
    println!("CHECK DONE");
    if FAILED.load(Ordering::Relaxed) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

async fn run() -> Outcome {
    let want: SpiffeId = env::var("INTEROP_SPIFFE_ID")?.parse()?;
    let client = WorkloadApiClient::connect_env().await?;

    let svid = client.fetch_x509_svid().await?;
    check("fetch_x509_svid", equal("SPIFFE ID", svid.spiffe_id(), &want));
    check("x509_hint", equal("hint", svid.hint(), env::var("INTEROP_HINT").ok().as_deref()));
    let context = client.fetch_x509_context().await?;
    let bundle = context.bundle_set().get(want.trust_domain()).ok_or("own trust domain has no X.509 bundle")?;
    check("fetch_x509_context", equal("bundle is empty", bundle.authorities().is_empty(), false));
    check("fetch_x509_bundles", equal("no bundle", client.fetch_x509_bundles().await?.get(want.trust_domain()).is_none(), false));

    let jwt = client.fetch_jwt_svid([AUDIENCE], None).await?;
    check("fetch_jwt_svid", equal("SPIFFE ID", jwt.spiffe_id(), &want));
    check("jwt_audience", equal("audience", jwt.audience(), &[AUDIENCE.to_string()]));
    let validated = client.validate_jwt_token(AUDIENCE, jwt.token()).await?;
    check("validate_jwt_token", equal("SPIFFE ID", validated.spiffe_id(), &want));
    check("validate_jwt_token_wrong_audience", refused(client.validate_jwt_token("other", jwt.token()).await));

    let source = JwtSource::new().await?;
    let jwt = source.fetch_jwt_svid_with_id(["a", "b"], Some(&want)).await?;
    check("jwtsource_two_audiences", equal("count of audiences", jwt.audience().len(), 2));
    let local = JwtSvid::parse_and_validate(jwt.token(), &source, &["a"]);
    check("parse_and_validate_locally", local.map(|_| ()).map_err(Into::into));
    check("jwtsource_bundle", equal("no bundle", source.bundle_for_trust_domain(want.trust_domain())?.is_none(), false));
    source.shutdown().await;

    let source = X509Source::new().await?;
    let mut updates = source.updated();
    let first = source.svid()?;
    loop {
        updates.changed().await?;
        let second = source.svid()?;
        if second.leaf().as_bytes() == first.leaf().as_bytes() {
            continue; // an update of the bundle alone
        }
        check("x509source_rotation", equal("SPIFFE ID", second.spiffe_id(), &want));
        let same_key = second.private_key().as_bytes() == first.private_key().as_bytes();
        check("rotated_new_key", equal("key is the old one", same_key, false));
        break;
    }
    source.shutdown().await;
    Ok(())
}
