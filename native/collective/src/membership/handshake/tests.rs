//! The handshake against whatever can be on its way: every byte of it changed, words of an earlier one,
//! and bytes of no kind.

use std::future::Future;
use std::time::Duration;

use proptest::prelude::*;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::secret::Secret;

fn job(rank: usize, secret: u8, attempt: u64) -> Job {
    let config = serde_json::json!({
        "run_id": "run", "stage_id": 1, "stage_attempt": attempt, "rank": rank, "world_size": 2,
        "hosts": ["127.0.0.1", "127.0.0.1"], "bind_host": "127.0.0.1", "port": 1, "port_retries": 0,
        "rendezvous_timeout_ms": 1_000, "progress_timeout_ms": 1_000});
    let config = serde_json::from_value(config).expect("a configuration");
    Job::new(&config, &Secret::new([secret; 32]))
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        timeout(Duration::from_secs(20), work)
            .await
            .expect("no hang")
    })
}

async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let (caller, called) = tokio::join!(TcpStream::connect(address), listener.accept());
    let ends = (caller.expect("connected"), called.expect("accepted").0);
    for end in [&ends.0, &ends.1] {
        // Bytes are passed on one by one.
        end.set_nodelay(true).expect("an option of TCP");
    }
    ends
}

/// Who says the bytes that are changed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Initiator,
    Responder,
}

/// Passes bytes on, one of them changed; gives what the initiator's side said.
async fn pass(mut from: TcpStream, mut to: TcpStream, flip: Option<(Side, usize)>) -> Vec<u8> {
    let (mut from_read, mut from_write) = from.split();
    let (mut to_read, mut to_write) = to.split();
    let forth = async {
        let mut said = Vec::new();
        while let Ok(byte) = from_read.read_u8().await {
            let hit = flip == Some((Side::Initiator, said.len()));
            said.push(byte);
            if to_write.write_u8(byte ^ u8::from(hit)).await.is_err() {
                break;
            }
        }
        to_write.shutdown().await.ok();
        said
    };
    let back = async {
        let mut at = 0;
        while let Ok(byte) = to_read.read_u8().await {
            let hit = flip == Some((Side::Responder, at));
            at += 1;
            if from_write.write_u8(byte ^ u8::from(hit)).await.is_err() {
                break;
            }
        }
        from_write.shutdown().await.ok();
    };
    tokio::join!(forth, back).0
}

/// How both sides ended: the responder with the rank that it believes to have met.
type Ends = (Result<(), Refusal>, Result<usize, Refusal>);

/// Both sides over a wire that changes one byte; and all that the initiator said.
async fn meet(initiator: &Job, responder: &Job, flip: Option<(Side, usize)>) -> (Ends, Vec<u8>) {
    let (caller, near) = connection().await;
    let (far, called) = connection().await;
    let first = Message::Leave;
    let calls = async {
        let link = initiate(caller, initiator, Purpose::Control, 0, &first).await;
        link.map(drop)
    };
    let answers = async {
        let arrival = respond(called, responder, Purpose::Control).await?;
        Ok(arrival.confirm().await?.rank)
    };
    let (called, answered, said) = tokio::join!(calls, answers, pass(near, far, flip));
    ((called, answered), said)
}

#[test]
fn two_ranks_of_one_job_meet() {
    run(async {
        let (ends, said) = meet(&job(1, 9, 0), &job(0, 9, 0), None).await;
        assert!(matches!(ends, (Ok(()), Ok(1))), "{ends:?}");
        let first = HELLO_BYTES + HANDSHAKE_BYTES + FIRST_BYTES + TAG_BYTES;
        assert!(said.len() > first, "{} bytes", said.len());
    });
}

#[test]
fn a_change_of_any_byte_on_the_way_keeps_them_apart() {
    run(async {
        let (initiator, responder) = (job(1, 9, 0), job(0, 9, 0));
        let proof = HELLO_BYTES + HANDSHAKE_BYTES + FIRST_BYTES + TAG_BYTES;
        for at in 0..proof {
            let flip = Some((Side::Initiator, at));
            let ((_, arrived), _) = meet(&initiator, &responder, flip).await;
            assert!(arrived.is_err(), "byte {at} of the initiator");
        }
        for at in 0..HELLO_BYTES + HANDSHAKE_BYTES {
            let flip = Some((Side::Responder, at));
            let ends = meet(&initiator, &responder, flip).await.0;
            assert!(matches!(ends, (Err(_), Err(_))), "byte {at}: {ends:?}");
        }
    });
}

#[test]
fn attempts_are_told_apart_with_proof_on_both_sides() {
    run(async {
        let ends = meet(&job(1, 9, 2), &job(0, 9, 3), None).await.0;
        let told = matches!(
            ends,
            (
                Err(Refusal::OtherAttempt { attempt: 3 }),
                Err(Refusal::OtherAttempt { attempt: 2 })
            )
        );
        assert!(told, "{ends:?}");
        // Without the secret it is a claim.
        let ends = meet(&job(1, 9, 2), &job(0, 8, 3), None).await.0;
        let claimed = matches!(
            ends,
            (
                Err(Refusal::Unproved { attempt: 3 }),
                Err(Refusal::Unproved { attempt: 2 })
            )
        );
        assert!(claimed, "{ends:?}");
    });
}

#[test]
fn a_message_of_many_frames_arrives_whole() {
    run(async {
        let (caller, called) = connection().await;
        let (initiator, responder) = (job(1, 9, 0), job(0, 9, 0));
        let calls = initiate(caller, &initiator, Purpose::Control, 0, &Message::Leave);
        let answers = async {
            let arrival = respond(called, &responder, Purpose::Control).await?;
            arrival.confirm().await
        };
        let (called, arrived) = tokio::join!(calls, answers);
        let (mut reader, _writer) = called.expect("linked");
        let (_reader, mut writer) = arrived.expect("linked").link;
        let ids: Vec<usize> = (0..50_000).collect();
        let sends = async {
            writer.send(&Message::Groups { ids: ids.clone() }).await?;
            writer.send(&Message::Farewell).await
        };
        let (sent, received) = tokio::join!(sends, reader.receive());
        sent.expect("all is sent");
        let received = received.expect("all arrives");
        assert!(matches!(received, Message::Groups { ids: came } if came == ids));
        assert!(matches!(reader.receive().await, Ok(Message::Farewell)));
    });
}

/// What `respond` makes of a caller that says `words` and listens no further.
async fn answer_to(words: &[u8], responder: &Job) -> Result<usize, Refusal> {
    let (mut caller, called) = connection().await;
    let says = async {
        // The other end may hang up before all is said.
        caller.write_all(words).await.ok();
        caller.shutdown().await.ok();
        let mut rest = Vec::new();
        caller.read_to_end(&mut rest).await.ok();
    };
    let answers = async {
        let arrival = respond(called, responder, Purpose::Control).await?;
        Ok(arrival.confirm().await?.rank)
    };
    tokio::join!(says, answers).1
}

#[test]
fn a_recorded_conversation_cannot_be_had_again() {
    run(async {
        let responder = job(0, 9, 0);
        let (_, said) = meet(&job(1, 9, 0), &responder, None).await;
        for _ in 0..100 {
            let answer = answer_to(&said, &responder).await;
            assert!(
                matches!(answer, Err(Refusal::Unproved { .. })),
                "{answer:?}"
            );
        }
    });
}

/// Where a peer without the secret leaves the protocol: before it, or after so much of it.
fn any_words(from: usize) -> impl Strategy<Value = Vec<u8>> {
    let hello = job(from, 9, 0).hello(Purpose::Control, 1 - from);
    let hello = hello.encode().to_vec();
    let garbage = prop::collection::vec(any::<u8>(), 0..1500);
    (0..=hello.len(), any::<bool>(), garbage).prop_map(move |(length, whole, garbage)| {
        let begin = if whole { hello.len() } else { length };
        [&hello[..begin], &garbage].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_without_the_secret_make_a_rank(words in any_words(1)) {
        let answer = run(async { answer_to(&words, &job(0, 9, 0)).await });
        prop_assert!(answer.is_err());
    }

    #[test]
    fn no_answer_without_the_secret_is_believed(words in any_words(0)) {
        let linked = run(async {
            let (caller, mut called) = connection().await;
            let initiator = job(1, 9, 0);
            let first = Message::Leave;
            let calls = initiate(caller, &initiator, Purpose::Control, 0, &first);
            let answers = async move {
                called.write_all(&words).await.ok();
                called.shutdown().await.ok();
                let mut rest = Vec::new();
                called.read_to_end(&mut rest).await.ok();
            };
            tokio::join!(calls, answers).0.map(drop)
        });
        let refused = matches!(
            linked,
            Err(Refusal::Io(_) | Refusal::Mismatch(_) | Refusal::Unproved { .. })
        );
        prop_assert!(refused, "{:?}", linked);
    }
}
