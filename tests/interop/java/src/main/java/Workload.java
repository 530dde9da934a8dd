import io.spiffe.bundle.jwtbundle.JwtBundleSet;
import io.spiffe.spiffeid.SpiffeId;
import io.spiffe.svid.jwtsvid.JwtSvid;
import io.spiffe.svid.x509svid.X509Svid;
import io.spiffe.svid.x509svid.X509SvidValidator;
import io.spiffe.workloadapi.DefaultJwtSource;
import io.spiffe.workloadapi.DefaultWorkloadApiClient;
import io.spiffe.workloadapi.DefaultX509Source;
import io.spiffe.workloadapi.JwtSource;
import io.spiffe.workloadapi.Watcher;
import io.spiffe.workloadapi.WorkloadApiClient;
import io.spiffe.workloadapi.X509Context;
import java.math.BigInteger;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/**
 * A workload on java-spiffe: one-shot calls, both sources, JWT validation, one rotation seen.
 * Expects SPIFFE_ENDPOINT_SOCKET, INTEROP_SPIFFE_ID, INTEROP_HINT; prints CHECK lines (see go/checks).
 */
public final class Workload {
  private static final String AUDIENCE = "java-audience";
  private static boolean failed;

  private interface Body {
    void run() throws Exception;
  }

  private static void check(String name, Body body) {
    try {
      body.run();
      System.out.println("CHECK PASS " + name);
    } catch (Exception error) {
      failed = true;
      System.out.println("CHECK FAIL " + name + ": " + error.toString().replace('\n', ' '));
    }
  }

  private static void equal(String what, Object got, Object want) {
    if (!Objects.equals(got, want)) {
      throw new IllegalStateException(what + " is " + got + ", want " + want);
    }
  }

  private static void refused(Body body) {
    try {
      body.run();
    } catch (Exception expected) {
      return;
    }
    throw new IllegalStateException("it was accepted");
  }

  public static void main(String[] arguments) {
    SpiffeId want = SpiffeId.parse(System.getenv("INTEROP_SPIFFE_ID"));
    check("client", () -> {
      try (WorkloadApiClient client = DefaultWorkloadApiClient.newClient()) {
        oneShot(client, want);
        rotation(client, want);
      }
    });
    check("sources", () -> sources(want));
    System.out.println("CHECK DONE");
    System.exit(failed ? 1 : 0);
  }

  private static void oneShot(WorkloadApiClient client, SpiffeId want) throws Exception {
    X509Context context = client.fetchX509Context();
    X509Svid svid = context.getDefaultSvid();
    check("fetch_x509_context", () -> equal("SPIFFE ID", svid.getSpiffeId(), want));
    check("x509_hint", () -> equal("hint", svid.getHint(), System.getenv("INTEROP_HINT")));
    check("x509_valid_now", () -> svid.getLeaf().checkValidity());
    check("x509_verify_chain", () -> X509SvidValidator.verifyChain(svid.getChain(), context.getX509BundleSet()));
    check("fetch_x509_bundles", () -> client.fetchX509Bundles().getBundleForTrustDomain(want.getTrustDomain()));

    JwtSvid jwt = client.fetchJwtSvid(AUDIENCE, "second");
    check("fetch_jwt_svid", () -> equal("SPIFFE ID", jwt.getSpiffeId(), want));
    check("jwt_audience", () -> equal("audience", jwt.getAudience(), Set.of(AUDIENCE, "second")));
    check("validate_jwt_svid", () -> equal("SPIFFE ID", client.validateJwtSvid(jwt.getToken(), AUDIENCE).getSpiffeId(), want));
    check("validate_jwt_svid_wrong_audience", () -> refused(() -> client.validateJwtSvid(jwt.getToken(), "other")));
    JwtBundleSet bundles = client.fetchJwtBundles();
    check("fetch_jwt_bundles", () -> bundles.getBundleForTrustDomain(want.getTrustDomain()));
    check("parse_and_validate_locally", () -> JwtSvid.parseAndValidate(jwt.getToken(), bundles, Set.of(AUDIENCE)));
  }

  private static void rotation(WorkloadApiClient client, SpiffeId want) {
    CompletableFuture<X509Svid> rotated = new CompletableFuture<>();
    client.watchX509Context(new Watcher<>() {
      private BigInteger first;

      @Override
      public void onUpdate(X509Context update) {
        BigInteger serial = update.getDefaultSvid().getLeaf().getSerialNumber();
        if (first == null) {
          first = serial;
        } else if (!first.equals(serial)) {
          rotated.complete(update.getDefaultSvid());
        }
      }

      @Override
      public void onError(Throwable error) {
        rotated.completeExceptionally(error);
      }
    });
    check("watch_x509_rotation", () -> equal("SPIFFE ID", rotated.get(90, TimeUnit.SECONDS).getSpiffeId(), want));
  }

  private static void sources(SpiffeId want) throws Exception {
    try (DefaultX509Source source = DefaultX509Source.newSource()) {
      check("x509source", () -> equal("SPIFFE ID", source.getX509Svid().getSpiffeId(), want));
      check("x509source_bundle", () -> source.getBundleForTrustDomain(want.getTrustDomain()));
    }
    try (JwtSource source = DefaultJwtSource.newSource()) {
      check("jwtsource_with_subject", () -> equal("SPIFFE ID", source.fetchJwtSvid(want, AUDIENCE).getSpiffeId(), want));
      check("jwtsource_bundle", () -> source.getBundleForTrustDomain(want.getTrustDomain()));
    }
  }
}
