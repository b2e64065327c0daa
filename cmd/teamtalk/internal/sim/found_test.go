package sim

import (
	"testing"
	"time"
)

// found are plans that once failed, shrunk.
var found = map[string]struct {
	seed  uint64
	mesh  bool
	steps []step
}{
	// A text that had waited behind one in doubt was given up, and with it forgotten as
	// one of a sender that never repeats: an older text was not repeated in time. The next
	// text overtook it.
	"expired behind one in doubt": {16, false, []step{
		{at: 3450366593, act: actCutClient, a: 900, b: 0, n: 3, d: 6057985334},
		{at: 5127498548, act: actStop, a: 831, b: 0, n: 3, d: 1842330807},
		{at: 15158150553, act: actVanish, a: 0, b: 0, n: 2, d: 3351843611},
		{at: 18847257727, act: actWrite, a: 0, b: 3, n: 1, d: 0},
		{at: 18847606059, act: actHalfLink, a: 567, b: 0, n: 1, d: 7920807000},
		{at: 28901582586, act: actWrite, a: 0, b: 1002, n: 3, d: 0},
		{at: 29745939934, act: actWrite, a: 4, b: 3, n: 1, d: 0},
		{at: 29746429509, act: actCrashAtCommit, a: 535, b: 0, n: 2, d: 5107475978},
		{at: 33171531922, act: actWrite, a: 0, b: 3, n: 1, d: 0},
		{at: 39935225674, act: actWrite, a: 0, b: 3, n: 1, d: 0},
	}},
	// A text that waited 8 s for a dead db_proxy was given up, and with it the texts
	// that its sender had written just before. The next text overtook those.
	"given up with another one": {253, false, []step{
		{at: 8923474 * time.Microsecond, act: actVanish, a: 307, d: 4439 * time.Millisecond},
		{at: 27551181 * time.Microsecond, act: actWrite, a: 0, b: 4, n: 1},
		{at: 35561650 * time.Microsecond, act: actWrite, a: 0, b: 4, n: 2},
		{at: 36015631 * time.Microsecond, act: actWrite, a: 0, b: 4, n: 1},
	}},
	// A text was repeated while its first attempt waited for a dead db_proxy. It was given
	// up 8 s after it was written, not after the repeat, and the next text overtook it.
	"repeated while unanswered": {14243, false, []step{
		{at: 4098127577, act: actStop, a: 164, b: 0, n: 3, d: 4284502814},
		{at: 10495283101, act: actHalfLink, a: 148, b: 0, n: 2, d: 1681798477},
		{at: 24108378869, act: actWrite, a: 3, b: 1, n: 1, d: 0},
		{at: 35989499853, act: actWrite, a: 3, b: 1, n: 1, d: 0},
		{at: 35991884208, act: actHangUp, a: 3, b: 0, n: 1, d: 5714984490},
	}},
	// The only repeat of a text arrived while its first attempt waited for a dead db_proxy,
	// and was forgotten. The repeat of the next text overtook it.
	"the only repeat unanswered": {14109, false, []step{
		{at: 3334725470, act: actHalfLink, a: 463, b: 0, n: 2, d: 1023833574},
		{at: 20128250452, act: actWrite, a: 3, b: 2, n: 3, d: 0},
		{at: 25738286221, act: actWrite, a: 3, b: 2, n: 1, d: 0},
		{at: 29813518065, act: actWrite, a: 3, b: 2, n: 4, d: 0},
		{at: 37405294940, act: actHangUp, a: 75, b: 0, n: 1, d: 3678587910},
	}},
	// The answers to the removal of a member and to a text after it were lost. The text was
	// found in the history, and delivered to that user by the other message server.
	"found after an unknown change": {1266, false, []step{
		{at: 5757734582, act: actWrite, a: 5, b: 1001, n: 1, d: 0},
		{at: 8100927025, act: actWrite, a: 2, b: 3, n: 5, d: 0},
		{at: 22343649075, act: actMood, a: 96, b: 0, n: 3, d: 5406200212},
		{at: 23339466347, act: actWrite, a: 2, b: 1002, n: 1, d: 0},
		{at: 23484147391, act: actWrite, a: 5, b: 1002, n: 1, d: 0},
		{at: 25232841704, act: actMembers, a: 1001, b: 2, n: 2, d: 0},
		{at: 25755133433, act: actWrite, a: 5, b: 1001, n: 1, d: 0},
	}},
	// A message server ended with the answer to a stored text. Its client noticed that after
	// more than a minute, and repeated the text, which was delivered after a newer one.
	"repeated after a minute": {14192, false, []step{
		{at: 16286993681, act: actWrite, a: 3, b: 1002, n: 2, d: 0},
		{at: 17796721636, act: actWrite, a: 2, b: 3, n: 2, d: 0},
		{at: 17823548530, act: actMembers, a: 1002, b: 3, n: 2, d: 0},
		{at: 26949321585, act: actWrite, a: 4, b: 1, n: 1, d: 0},
		{at: 26953400401, act: actVanish, a: 670, b: 0, n: 1, d: 1404308030},
		{at: 40468872486, act: actWrite, a: 0, b: 4, n: 1, d: 0},
	}},
	// The repeat of a text, handled when the first attempt had failed, was held as if it had
	// just arrived. Its sender had given it up and left, and the next text overtook it.
	"held for a sender that left": {15225, false, []step{
		{at: 4450595453, act: actHalfLink, a: 15, b: 0, n: 1, d: 5669230943},
		{at: 12278520980, act: actList, a: 1, b: 0, n: 0, d: 6161813767},
		{at: 15074952194, act: actWrite, a: 2, b: 3, n: 1, d: 0},
		{at: 23974517365, act: actWrite, a: 2, b: 3, n: 1, d: 0},
		{at: 29694217842, act: actHangUp, a: 872, b: 0, n: 1, d: 1275213962},
	}},
	// A db_proxy left. Two message servers stored the first two texts of a conversation with
	// different db_proxies. The second one overtook the first one on its way to a receiver,
	// and the first one was dropped.
	"behind another db_proxy": {15476, false, []step{
		{at: 4119962430, act: actWrite, a: 1, b: 3, n: 1, d: 0},
		{at: 4122640132, act: actStop, a: 961, b: 0, n: 3, d: 3515947087},
		{at: 7799489116, act: actWrite, a: 4, b: 2, n: 1, d: 0},
		{at: 7801484470, act: actWrite, a: 3, b: 2, n: 1, d: 0},
	}},
	// The commit of a text had an unknown outcome, and its message server searched for it. The
	// next text of the same db_proxy did not name it, and overtook it on its way.
	"behind one in doubt": {19529, false, []step{
		{at: 5430545240, act: actWrite, a: 3, b: 1, n: 1, d: 0},
		{at: 5737326426, act: actWrite, a: 1, b: 1002, n: 1, d: 0},
		{at: 5744039203, act: actMood, a: 1, b: 0, n: 3, d: 3117415630},
		{at: 6759032562, act: actWrite, a: 1, b: 4, n: 1, d: 0},
		{at: 6872292586, act: actWrite, a: 3, b: 2, n: 1, d: 0},
	}},
	// Two repeated texts were searched in the history. The search for the first one failed,
	// and it was held. The other one was not found, and stored.
	"held while another one is searched": {16920, false, []step{
		{at: 15425673910, act: actHalfLink, a: 7, b: 0, n: 1, d: 1665622276},
		{at: 21778878778, act: actWrite, a: 4, b: 1002, n: 1, d: 0},
		{at: 23264495483, act: actWrite, a: 4, b: 1002, n: 1, d: 0},
		{at: 28069890608, act: actList, a: 0, b: 0, n: 0, d: 5547349076},
	}},
	// A text was repeated while it was in flight, and the next text while it was held. When
	// the first one failed, it was held as if it had just arrived, behind the next one.
	"held behind a later one": {19321, false, []step{
		{at: 4282259881, act: actVanish, a: 768, b: 0, n: 2, d: 6041952595},
		{at: 5707207726, act: actWrite, a: 4, b: 1, n: 3, d: 0},
		{at: 12334449330, act: actWrite, a: 4, b: 1001, n: 2, d: 0},
		{at: 22071102186, act: actWrite, a: 4, b: 1, n: 1, d: 0},
		{at: 24132778907, act: actWrite, a: 4, b: 1, n: 1, d: 0},
	}},
	// A text was given up and repeated while the next one was held. The repeat was held behind
	// the next one, which was stored when it was repeated as well.
	"repeat held behind a later one": {21267, false, []step{
		{at: 5391825500, act: actCutLink, a: 3, b: 0, n: 3, d: 5985821612},
		{at: 20255914440, act: actStop, a: 1, b: 0, n: 3, d: 2616027826},
		{at: 20262904533, act: actHalfLink, a: 554, b: 0, n: 1, d: 7994996311},
		{at: 21551872787, act: actWrite, a: 3, b: 3, n: 5, d: 0},
		{at: 28971513296, act: actWrite, a: 3, b: 1001, n: 1, d: 0},
		{at: 31372845974, act: actWrite, a: 3, b: 3, n: 1, d: 0},
		{at: 33398064125, act: actWrite, a: 3, b: 1001, n: 1, d: 0},
		{at: 34974154194, act: actWrite, a: 3, b: 1001, n: 1, d: 0},
		{at: 37737351670, act: actWrite, a: 3, b: 3, n: 3, d: 0},
		{at: 38824973693, act: actWrite, a: 3, b: 1001, n: 1, d: 0},
	}},
	// The repeat of a text was refused behind an older one, and handled again as if its sender
	// had repeated it once more. That counted as giving up the older one.
	"repeat counted twice": {27712, false, []step{
		{at: 7856084557, act: actVanish, a: 1, b: 0, n: 1, d: 1814780809},
		{at: 17175822998, act: actWrite, a: 3, b: 3, n: 1, d: 0},
		{at: 17177217220, act: actWrite, a: 3, b: 3, n: 1, d: 0},
		{at: 22532924465, act: actWrite, a: 3, b: 3, n: 1, d: 0},
		{at: 25213064532, act: actWrite, a: 3, b: 3, n: 1, d: 0},
		{at: 28945399090, act: actWrite, a: 3, b: 2, n: 1, d: 0},
		{at: 29098640304, act: actWrite, a: 3, b: 3, n: 1, d: 0},
		{at: 34812573059, act: actWrite, a: 3, b: 1001, n: 1, d: 0},
		{at: 37484351930, act: actHangUp, a: 3, b: 0, n: 2, d: 7184971844},
	}},
	// The ack of a stored text waited for the receiver, and its connection ended.
	"drained without an ack": {828, false, []step{
		{at: 3946939879, act: actWrite, a: 5, b: 1, n: 1},
		{at: 3958264401, act: actStop, a: 5, d: 5654840664},
	}},
	// A message server that was back after it had been cut off from Redis removed the entries
	// of another one, which its old list lacked.
	"entries removed by an old list": {372, true, []step{
		{at: 45296113220, act: actCutOff, a: 709, b: 0, n: 3, d: 10423712359},
		{at: 45746953449, act: actWrite, a: 0, b: 2, n: 4, d: 0},
		{at: 53989112743, act: actCutOff, a: 26, b: 0, n: 2, d: 6080451536},
		{at: 54619540337, act: actWrite, a: 3, b: 1001, n: 1, d: 0},
	}},
	// A status was lost on a half-open link, and counted as told when it was sent again.
	"status that only a phone's login had seen": {208, true, []step{
		{at: 7384175394, act: actStop, a: 443, b: 0, n: 3, d: 346446775},
		{at: 9105028222, act: actWrite, a: 3, b: 1, n: 1, d: 0},
		{at: 9206222846, act: actWrite, a: 3, b: 3, n: 1, d: 0},
		{at: 20997861482, act: actHalfLink, a: 757, b: 0, n: 1, d: 4686738451},
		{at: 21268548164, act: actHangUp, a: 3, b: 0, n: 2, d: 1051888633},
		{at: 22397296567, act: actHangUp, a: 1, b: 0, n: 2, d: 6171856804},
		{at: 39795132629, act: actWrite, a: 3, b: 2, n: 1, d: 0},
	}},
}

// TestFound runs the plans that once failed.
func TestFound(t *testing.T) {
	withoutRaces(t)
	for name, c := range found {
		t.Run(name, func(t *testing.T) {
			for _, f := range play(t, setup{seed: c.seed, mesh: c.mesh, steps: c.steps}).failures {
				t.Errorf("%v: %s: %s", f.at, f.kind, f.text)
			}
		})
	}
}
