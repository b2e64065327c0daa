//go:build linux

package e2e

// gather lets a user make a group with another, exclude the other, and add it again. Both pages
// list the group before anybody has written in it. Then the conversation of the two is open again.
func gather(alice, bob *person) {
	const listed = "document.querySelector(%q)?.innerText.includes('Lunch')"
	row := "nav " + named("group")
	alice.clicks(named("tab-chats"))
	alice.clicks(named("new-group"))
	pick := named("pick") + `[data-user="bob"] input`
	alice.sees("the dialog", "document.querySelector(%q)", pick)
	alice.types("group-name", "Lunch")
	alice.clicks(pick)
	alice.clicks(named("group-create"))
	alice.sees("the group", listed, row)

	alice.clicks(named("details"))
	alice.sees("bob among the members", "document.querySelector(%q)", named("member-remove"))
	alice.clicks(named("member-remove"))
	alice.sees("no bob among the members", "!document.querySelector(%q)", named("member-remove"))
	alice.clicks(named("group-add-open"))
	alice.sees("bob to choose", "document.querySelector(%q)", pick)
	alice.clicks(pick)
	alice.clicks(named("group-add"))
	bob.clicks(named("tab-chats"))
	bob.sees("the group", listed, row)

	alice.sees("bob among the members", "document.querySelector(%q)", named("member-remove"))
	alice.presses("Escape")
	alice.sees("no dialog", "!document.querySelector(%q)", named("group-details"))
	alice.clicks(contact("bob"))
	alice.has("It is: 你好", "stored")
}
