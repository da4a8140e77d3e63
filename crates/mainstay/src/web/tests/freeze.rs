//! The freeze switch: turned by programs and by buttons, shown on every page.

use mainstay_model::freeze::Freeze;
use mainstay_model::{Input, Wall};
use serde_json::{Value, json};

use super::Stage;
use super::fake::{self, NOW};

fn frozen() -> Stage {
    let mut snapshot = fake::snapshot();
    let until = Wall(NOW.0 + 3_600_000);
    snapshot.freeze = Some(Freeze { until, by: "anna".to_owned(), why: "racks <b>".to_owned() });
    Stage::new(snapshot, true, fake::FakePast::default())
}

#[tokio::test]
async fn a_program_turns_it_on_and_off_and_a_mistake_does_neither() {
    let mut stage = Stage::open();
    let path = "/api/v1/freeze";
    assert_eq!(stage.get_json(path).await.1, Value::Null);
    for body in
        [r#"{"for":"25h"}"#, r#"{"for":"0s"}"#, r#"{"for":"soon"}"#, r#"{"why":"a\nb"}"#, r#"{"until":1}"#]
    {
        stage.post_json(path, body).await.assert_problem(400, "bad-request");
    }
    stage.post_json(path, r#"{"why":"disk full"}"#).await.assert_problem(500, "freeze-file");
    assert!(stage.inputs.try_recv().is_err(), "what would be forgotten is not begun");
    let answer = stage.post_json(path, r#"{"for":"90m","why":"racks","by":"ada"}"#).await;
    assert_eq!(answer.status, 200);
    let Ok(Input::Freeze(Some(freeze))) = stage.inputs.try_recv() else { panic!("not frozen") };
    assert_eq!(
        (freeze.until.0 - NOW.0, freeze.by.as_str(), freeze.why.as_str()),
        (5_400_000, "ada", "racks")
    );
    assert_eq!(stage.post_json(path, "{}").await.status, 200);
    let Ok(Input::Freeze(Some(freeze))) = stage.inputs.try_recv() else { panic!("not frozen") };
    assert_eq!((freeze.until.0 - NOW.0, freeze.by.as_str()), (86_400_000, "api"));
    assert_eq!(stage.delete(path).await.status, 204);
    assert!(matches!(stage.inputs.try_recv(), Ok(Input::Freeze(None))));
}

#[tokio::test]
async fn every_page_says_so_with_a_button_and_a_deploy_is_refused() {
    let mut stage = frozen();
    for address in ["/", "/services/shop", "/servers/shop/app-1", "/monitors", "/maintenance", "/incidents"] {
        let page = stage.get(address).await.body;
        assert!(page.contains("Frozen by anna") && page.contains("action=\"/thaw\""), "{address}: {page}");
        assert!(page.contains("racks &#60;b&#62;") && !page.contains("racks <b>"), "{address}");
    }
    assert!(!Stage::open().get("/").await.body.contains("Frozen"));
    assert_eq!(stage.get_json("/api/v1/status").await.1["freeze"]["by"], json!("anna"));
    assert_eq!(stage.post_form("/thaw", "").await.status, 303);
    assert!(matches!(stage.inputs.try_recv(), Ok(Input::Freeze(None))));
    assert_eq!(stage.post_form("/freeze", "lasts=4h&why=racks").await.status, 303);
    let Ok(Input::Freeze(Some(freeze))) = stage.inputs.try_recv() else { panic!("not frozen") };
    assert_eq!((freeze.until.0 - NOW.0, freeze.by.as_str()), (14_400_000, "dashboard"));
    let metrics = stage.get("/metrics").await.body;
    assert!(metrics.contains("mainstay_frozen 1"), "{metrics}");
}
