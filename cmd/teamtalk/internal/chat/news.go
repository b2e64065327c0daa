package chat

import (
	"fmt"
	"slices"

	"teamtalk/core/client"
)

// GroupNews describes a change of a group in words.
func GroupNews(b *Book, e client.GroupChanged) string {
	self := b.SelfID()
	name, who := b.GroupName(e.Group.ID), b.Name(e.By)
	const most = 8
	switch {
	case e.By == 0 && !e.Group.Has(self):
		return "you are not in " + name + " any more"
	case e.By == 0:
		return fmt.Sprintf("%s has %d members: %s", name, len(e.Group.Members),
			b.listNames(e.Group.Members, most))
	case len(e.Added) > 0 && slices.Equal(e.Added, e.Group.Members):
		others := slices.DeleteFunc(slices.Clone(e.Added),
			func(id uint32) bool { return id == e.By })
		return fmt.Sprintf("%s made %s with %s", who, name, b.listNames(others, most))
	case len(e.Added) > 0:
		return fmt.Sprintf("%s added %s to %s", who, b.listNames(e.Added, most), name)
	case slices.Equal(e.Removed, []uint32{e.By}):
		return fmt.Sprintf("%s left %s", who, name)
	case len(e.Removed) > 0:
		return fmt.Sprintf("%s took %s out of %s", who, b.listNames(e.Removed, most), name)
	}
	return MutedNews(name, e.Group.Shield)
}

// MutedNews says in words whether a group is muted.
func MutedNews(name string, on bool) string {
	if on {
		return name + " is muted: no pushes from it to your phone"
	}
	return name + " is not muted"
}

// OnlineWord returns "online" or "offline".
func OnlineWord(on bool) string {
	if on {
		return "online"
	}
	return "offline"
}
