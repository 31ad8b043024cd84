//! Scripted customers: a few people with believable questions, so that the demo lives.
//!
//! Each person goes through a script from the top, over and over. Somebody writes every half minute
//! or so, and who has been answered often says something back. They write through the same door as
//! `POST /control/incoming`, so nothing about them is special to the hub. While somebody drives the
//! sandbox through its control routes they are silent, so that nothing unexpected arrives.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use crate::ledger::Sent;
use crate::platform::{Incoming, Player};
use crate::random::Dice;
use crate::serve::Sandbox;

/// Seconds between two unprompted messages: at least, and less than.
const WRITES_EVERY_S: (u64, u64) = (20, 40);
/// The first one comes sooner: somebody is watching an empty screen.
const FIRST_AFTER_S: (u64, u64) = (3, 6);
/// After a message no webhook tells of.
const OTHERS_AFTER: Duration = Duration::from_millis(500);
/// Seconds somebody takes to answer: at least, and less than.
const ANSWERS_AFTER_S: (u64, u64) = (3, 9);
/// How often somebody answers at all.
const ANSWERS: f64 = 0.6;

/// A person, where they write, and what they say.
struct Customer {
    platform: &'static str,
    id: &'static str,
    name: &'static str,
    /// Unprompted, in order.
    opens: &'static [&'static str],
    /// Once answered, in order.
    replies: &'static [&'static str],
}

const CUSTOMERS: [Customer; 12] = [
    Customer {
        platform: "facebook",
        id: "7214365098123401",
        name: "Mira Quill",
        opens: &[
            "Hi, is the blue teapot still in stock?",
            "Does it keep the tea warm, or do I need the cosy as well?",
            "One more thing: could you wrap it as a gift? 🎁",
        ],
        replies: &[
            "Lovely, then I'll take one.",
            "Thanks for the quick answer!",
        ],
    },
    Customer {
        platform: "facebook",
        id: "7214365098123402",
        name: "Jonas Weiß",
        opens: &[
            "My parcel 20931 says \"delivered\", but there is nothing here :(",
            "The neighbours don't have it either. What can we do?",
        ],
        replies: &[
            "OK, I'll wait until tomorrow.",
            "Found it! It was behind the bins. Sorry!",
        ],
    },
    Customer {
        platform: "facebook",
        id: "7214365098123403",
        name: "Amélie Roux",
        opens: &[
            "Bonjour! Do you ship to Lyon?",
            "And how long does that take, roughly?",
            "Is https://shop.example/green-set the right page for the whole set?",
        ],
        replies: &["Parfait, merci ☕", "That works for me."],
    },
    Customer {
        platform: "instagram",
        id: "1284736450912837",
        name: "Lena Okafor",
        opens: &[
            "Saw the green cups in your story 😍 still available?",
            "Do you have them in white too?",
        ],
        replies: &["Yay, ordering tonight!", "Thank you so much 💚"],
    },
    Customer {
        platform: "whatsapp",
        id: "491701234567",
        name: "Rosa Lindt",
        opens: &[
            "Guten Tag, ist die Reparatur von Auftrag 4711 schon fertig?",
            "Kann mein Mann sie heute abholen?",
        ],
        replies: &["Prima, vielen Dank!", "Dann bis später."],
    },
    Customer {
        platform: "whatsapp",
        id: "351910000123",
        name: "Duarte Reis",
        opens: &[
            "Hi, do you take part in the market on Sunday?",
            "Which teas will you bring?",
        ],
        replies: &["See you on Sunday 👋"],
    },
    Customer {
        platform: "telegram",
        id: "5501000001",
        name: "Ines",
        opens: &[
            "Hello, are you open on Saturday?",
            "Can I bring a teapot with a cracked lid? Maybe you can repair it",
        ],
        replies: &["Great, see you then!", "Perfect 👍"],
    },
    Customer {
        platform: "telegram",
        id: "5501000002",
        name: "Tomás",
        opens: &[
            "I'd like to order 12 small cups for a café. Is there a discount?",
            "We would need them by the end of the month",
            "Could you send an invoice without VAT? We are in Portugal",
        ],
        replies: &[
            "That price is fine, please go ahead.",
            "Thank you, talk soon.",
        ],
    },
    Customer {
        platform: "twitter",
        id: "1700000000000000902",
        name: "Hana Okafor",
        opens: &[
            "hi! saw your autumn teapots — is the celadon one <1 litre?",
            "and do you ship to Porto & the islands?",
        ],
        replies: &["ace, ordering tonight", "thank you 🙏"],
    },
    Customer {
        platform: "linkedin",
        id: "Kontakt-B7",
        name: "Dana Fox",
        opens: &[
            "Lovely set. Would you supply forty of them for our offices?",
            "What would the delivery time be for the whole order?",
        ],
        replies: &["Thank you, I will pass it on."],
    },
    Customer {
        platform: "teams",
        id: "b2b2b2b2-0000-4000-8000-000000000002",
        name: "Mira Quist",
        opens: &[
            "Hi, the office needs 30 mugs by Thursday. Can you do that?",
            "And could they have our logo on them?",
        ],
        replies: &["Great, I'll send the file.", "Thanks, that helps."],
    },
    Customer {
        platform: "teams",
        id: "c3c3c3c3-0000-4000-8000-000000000003",
        name: "Tomás Ribeiro",
        opens: &[
            "Is invoice 4711 paid already? I can't find it",
            "Who should I ask about the teapots for the canteen?",
        ],
        replies: &["Found it, thank you!", "OK, I'll ask there."],
    },
];

/// How far each customer is in their script: unprompted lines, and answers.
type Progress = [(usize, usize); CUSTOMERS.len()];

/// Lets the customers write until the sandbox stops.
pub(crate) async fn write_now_and_then(sandbox: Sandbox) {
    let stop = sandbox.world.stop.clone();
    tokio::select! {
        () = live(sandbox) => {}
        () = stop.cancelled() => {}
    }
}

async fn live(sandbox: Sandbox) {
    let mut dice = Dice::new(sandbox.world.faults.seed());
    let mut progress: Progress = Default::default();
    let mut news = sandbox.world.ledger.listen();
    let mut next = Instant::now() + seconds(&mut dice, FIRST_AFTER_S);
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next) => {
                next = Instant::now() + seconds(&mut dice, WRITES_EVERY_S);
                if sandbox.world.is_driven() {
                    continue;
                }
                let index = pick(&mut dice);
                let customer = &CUSTOMERS[index];
                let said = &mut progress[index].0;
                let told = say(&sandbox, customer, customer.opens[*said % customer.opens.len()]).await;
                *said += 1;
                if !told {
                    // It waits to be fetched; somebody else is heard of meanwhile.
                    next = Instant::now() + OTHERS_AFTER;
                }
            }
            heard = news.recv() => match heard {
                Ok(sent) => answer(&sandbox, &sent, &mut dice, &mut progress),
                // Under a flood some messages stay unanswered, as in life.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
    }
}

/// Plans an answer to a message, maybe. It is given later, so that others can write meanwhile.
fn answer(sandbox: &Sandbox, sent: &Sent, dice: &mut Dice, progress: &mut Progress) {
    let addressed =
        |customer: &Customer| customer.platform == sent.platform && customer.id == sent.to;
    let Some(index) = CUSTOMERS.iter().position(addressed) else {
        return;
    };
    if sandbox.world.is_driven() || !dice.chance(ANSWERS) {
        return;
    }
    let customer = &CUSTOMERS[index];
    let reply = customer.replies[progress[index].1 % customer.replies.len()];
    progress[index].1 += 1;
    let (pause, sandbox) = (seconds(dice, ANSWERS_AFTER_S), sandbox.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(pause) => { say(&sandbox, customer, reply).await; }
            () = sandbox.world.stop.cancelled() => {}
        }
    });
}

/// Whether a webhook told the hub, or tried to.
async fn say(sandbox: &Sandbox, customer: &Customer, text: &str) -> bool {
    let plays = |player: &&Arc<dyn Player>| player.name() == customer.platform;
    let Some(player) = sandbox.players.iter().find(plays) else {
        return false;
    };
    let incoming = Incoming {
        account: Some(player.shop()),
        from_id: customer.id.to_owned(),
        from_name: customer.name.to_owned(),
        text: text.to_owned(),
        picture: false,
        media: None,
    };
    match player.write(&incoming) {
        Ok(written) => match written.webhook {
            Some(webhook) => {
                sandbox.world.deliver(webhook, 1).await;
                true
            }
            None => false,
        },
        Err(error) => {
            tracing::warn!(error, "a scripted customer could not write");
            false
        }
    }
}

fn seconds(dice: &mut Dice, (low, high): (u64, u64)) -> Duration {
    Duration::from_millis(dice.between(low * 1000, high * 1000))
}

fn pick(dice: &mut Dice) -> usize {
    usize::try_from(dice.throw() % CUSTOMERS.len() as u64).unwrap_or_default()
}
