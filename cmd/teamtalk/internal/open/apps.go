package open

import (
	"teamtalk/core/config/apps"
	"teamtalk/handlers/httpapi"
)

// Apps returns the systems of an apps file, and its settings of the registration without the
// place of the accounts; nil: users cannot register.
func Apps(file *apps.File) (list []httpapi.App, register *httpapi.Register) {
	for _, a := range file.App {
		list = append(list, httpapi.App{
			Name: a.Name, Key: string(a.Key), Calls: a.Calls, As: a.As, Users: a.Users,
			Groups:   a.Groups,
			Networks: a.Nets, Rate: a.Rate, Burst: a.Burst,
		})
	}
	r := &file.Register
	if !r.Open && len(r.Invites) == 0 {
		return list, nil
	}
	return list, &httpapi.Register{Open: r.Open, Invites: r.Invites, Networks: r.Nets,
		PerHour: r.PerHour, Depart: r.Depart}
}
