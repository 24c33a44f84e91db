//! `healing_resolve`: people close an incident, and say whether it is well again.
//!
//! **Invariant:** an incident is closed once, and not while a remediation runs on it.

use serde_json::Value;

use super::incident::IncidentChange;
use super::policy::status::Status;
use crate::Result;
use crate::operation::{Effect, Form, Kind, Lasts, Operation, Parameter, Refusal, Refused};
use crate::role::Role;
use crate::session::Invocation;

/// `PATCH /healing/incidents/{id}`.
pub(crate) const OPERATION: Operation = Operation {
    name: "healing_resolve",
    does: "Closes an incident that people have looked after, and says whether it is well again.",
    parameters: &[
        Parameter::new("id", Kind::Id, "The incident.").required(),
        Parameter::new("success", Kind::Boolean, "Whether it is well again.").required(),
        Parameter::new("note", Kind::Text, "What was found and done."),
    ],
    role: Role::Operator,
    effect: Effect::Changes,
    component: None,
    lasts: Lasts::Short,
    matched: false,
    answers: Form::Row("healing_incidents_list"),
    plans: &[],
    refuses: &[Refused::NotFound, Refused::AlreadyResolved, Refused::Conflict],
    decide: None,
    run: |invocation| Box::pin(resolve(invocation)),
};

async fn resolve(invocation: &Invocation) -> Result<Value> {
    let (own, id) = (&invocation.own, invocation.word("id"));
    let found = "SELECT * FROM healing_incidents_list WHERE id = $1";
    let _turn = own.operations().incidents.lock().await;
    let row = own.objects(found, &[id.into()]).await?.pop();
    let row = row.ok_or_else(|| Refusal::new(Refused::NotFound, format!("there is no incident {id}")).at("/id"))?;
    if !row["resolved_at"].is_null() {
        return Err(Refusal::new(Refused::AlreadyResolved, "the incident is resolved").at("/id").into());
    }
    let running = "SELECT runbook, target FROM juno_remediations WHERE incident_id = $1 AND state = 'running' LIMIT 1";
    if let Some(one) = own.objects(running, &[id.into()]).await?.pop() {
        let name = |member: &str| one[member].as_str().unwrap_or_default();
        let text = format!(
            "{} of {} runs on the incident: wait for it to end, or cancel its job",
            name("runbook"),
            name("target")
        );
        return Err(Refusal::new(Refused::Conflict, text).at("/id").into());
    }
    if row["status"] == Status::Remediating.name() {
        // Nothing runs: the end of a process cut the remediation off.
        let reason = Some("its remediation was cut off".to_owned());
        let change = IncidentChange { status: Some(Status::Diagnosing), reason, ..IncidentChange::default() };
        own.change_in_turn(id, change).await?;
    }
    let change = IncidentChange {
        status: Some(Status::Resolved),
        success: Some(invocation.flag("success")),
        reason: invocation.text("note").map(str::to_owned),
        actor: Some(invocation.actor().to_owned()),
        ..IncidentChange::default()
    };
    own.change_in_turn(id, change).await?;
    Ok(own.objects(found, &[id.into()]).await?.pop().unwrap_or_default().into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::actuator::fake::{World, refusal};
    use crate::ops::healing::incident::IncidentOpening;
    use crate::ops::healing::policy::severity::Severity;

    const ADA: (&str, Role) = ("ada", Role::Operator);

    async fn opened(world: &World) -> String {
        let opening = IncidentOpening {
            incident_type: "availability".into(),
            severity: Severity::Critical,
            symptoms: json!({ "service": "shop" }),
        };
        world.own.open_incident(&opening).await.expect("an incident")
    }

    fn to(status: Status) -> IncidentChange {
        IncidentChange { status: Some(status), ..IncidentChange::default() }
    }

    async fn state(world: &World) -> (Value, Value) {
        let row = world.row("SELECT state, open_incidents FROM operations_status").await;
        (row["state"].clone(), row["open_incidents"].clone())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn people_close_what_failed_or_was_escalated_once_and_the_state_is_well_again() {
        let world = World::open().await;
        for end in [Status::Escalated, Status::Failed] {
            let id = opened(&world).await;
            world.own.change_incident(&id, to(Status::Diagnosing)).await.expect("a move");
            world.own.change_incident(&id, to(end)).await.expect("a move");
            assert_eq!(state(&world).await, (json!("critical"), json!(1)));
            let asked = json!({ "id": id, "success": false, "note": "the rack was switched off" });
            let row = world.ask(&OPERATION, ADA, asked.clone()).await.expect("the incident").value;
            assert_eq!((&row["status"], &row["success"]), (&json!("resolved"), &json!(false)));
            assert!(row["resolved_at"].is_string() && row["resolution_time_seconds"].is_number(), "{row}");
            let last = row["timeline"].as_array().and_then(|timeline| timeline.last()).expect("a timeline");
            assert_eq!((&last["stage"], &last["actor"]), (&json!("resolved"), &json!("ada")));
            assert_eq!(last["reason"], "the rack was switched off");
            assert_eq!(state(&world).await, (json!("healthy"), json!(0)));
            assert_eq!(refusal(world.ask(&OPERATION, ADA, asked).await), Refused::AlreadyResolved);
            // What the loop finds afterwards does not change what people have said.
            let late = IncidentChange { success: Some(true), ..to(Status::Resolved) };
            world.own.change_incident(&id, late).await.expect("no change");
            let kept = world.row(&format!("SELECT success FROM healing_incidents WHERE id = '{id}'")).await;
            assert_eq!(kept["success"], false);
        }
        let nobody = json!({ "id": "00000000-0000-7000-8000-0000000000ff", "success": true });
        assert_eq!(refusal(world.ask(&OPERATION, ADA, nobody).await), Refused::NotFound);
        let stages = world.rows("SELECT stage, operation FROM audit WHERE actor = 'ada' ORDER BY seq LIMIT 2").await;
        assert_eq!(stages[0], *json!({ "stage": "before", "operation": "healing_resolve" }).as_object().expect("one"));
        assert_eq!(stages[1]["stage"], "after");
        let told = "SELECT id FROM juno_events WHERE type = 'incident' AND data ->> 'status' = 'resolved'";
        assert!(world.rows(told).await.len() >= 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_incident_is_not_closed_while_a_remediation_runs_on_it() {
        let world = World::open().await;
        let id = opened(&world).await;
        world.own.change_incident(&id, to(Status::Diagnosing)).await.expect("a move");
        world.own.change_incident(&id, to(Status::Remediating)).await.expect("a move");
        let begun = "INSERT INTO juno_remediations (id, incident_id, runbook, executor, target, actor, began_at, \
                     cooldown_until, state) VALUES (gen_random_uuid(), $1, 'restart', 'fake', 'shop', 'ada', now(), \
                     now(), 'running')";
        world.own.changed_rows(begun, &[id.as_str().into()]).await.expect("a row");
        let asked = json!({ "id": id, "success": true });
        assert_eq!(refusal(world.ask(&OPERATION, ADA, asked.clone()).await), Refused::Conflict);
        // After a restart nothing runs any more, though the incident's status still says so.
        let world = world.reopened().await;
        let row = world.ask(&OPERATION, ADA, asked).await.expect("the incident").value;
        assert_eq!((&row["status"], &row["success"]), (&json!("resolved"), &json!(true)));
        assert!(row["remediation_s"].is_number(), "{row}");
    }
}
