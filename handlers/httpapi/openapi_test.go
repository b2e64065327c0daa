package httpapi

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"testing"
)

// TestOpenAPI: the description contains exactly the calls and their fields.
func TestOpenAPI(t *testing.T) {
	r := newRig(t, nil)
	rsp, err := http.Get(r.url + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer rsp.Body.Close()
	type schema struct {
		Properties map[string]any
	}
	type content struct {
		Content map[string]struct{ Schema schema }
	}
	var doc struct {
		Paths map[string]map[string]struct {
			RequestBody content
			Responses   map[string]content
		}
	}
	if err := json.NewDecoder(rsp.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	calls := map[string][2]any{
		"CreateGroup":   {createGroupRequest{}, createGroupResult{}},
		"ChangeMembers": {changeMembersRequest{}, answer{}},
		"SendMessage":   {sendMessageRequest{}, sendMessageResult{}},
		"GetUserStatus": {userStatusRequest{}, userStatusResult{}},
		"KickUser":      {kickUserRequest{}, answer{}},
		"Register":      {registerRequest{}, registerResult{}},
	}
	if len(doc.Paths) != len(calls) || len(calls) != len(Calls)+1 {
		t.Errorf("%d paths, %d calls, %d of apps", len(doc.Paths), len(calls), len(Calls))
	}
	for name, types := range calls {
		post := doc.Paths["/query/"+name]["post"]
		for i, described := range []map[string]any{
			post.RequestBody.Content["application/json"].Schema.Properties,
			post.Responses["200"].Content["application/json"].Schema.Properties} {
			want := fields(reflect.TypeOf(types[i]))
			var got []string
			for f := range described {
				got = append(got, f)
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s: described %v, is %v", name, got, want)
			}
		}
	}
}

// TestTermsDescribed: the description of the terms of registration contains every field
// of the answer.
func TestTermsDescribed(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]struct {
			Responses map[string]struct {
				Content map[string]struct {
					Schema struct{ Properties map[string]any }
				}
			}
		}
	}
	if err := json.Unmarshal(description, &doc); err != nil {
		t.Fatal(err)
	}
	var got []string
	rsp := doc.Paths["/query/Register"]["get"].Responses["200"]
	for f := range rsp.Content["application/json"].Schema.Properties {
		got = append(got, f)
	}
	slices.Sort(got)
	if want := fields(reflect.TypeFor[termsResult]()); !slices.Equal(got, want) {
		t.Errorf("described %v, is %v", got, want)
	}
}

// fields returns the JSON names of a struct's fields, sorted.
func fields(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			names = append(names, fields(f.Type)...)
			continue
		}
		names = append(names, f.Tag.Get("json"))
	}
	slices.Sort(names)
	return names
}
