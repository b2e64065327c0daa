package store

import (
	"fmt"
	"slices"
	"testing"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

const (
	ios     = pb.ClientType_CLIENT_TYPE_IOS
	android = pb.ClientType_CLIENT_TYPE_ANDROID
)

// keys checks the values in Redis; "" means that the key does not exist.
func (e *env) keys(t *testing.T, want map[string]string) {
	t.Helper()
	for key, value := range want {
		if got := e.redis.Do("GET " + key); got != value {
			t.Errorf("%s holds %q, want %q", key, got, value)
		}
	}
}

// TestTokenKeys requires the keys of existing deployments.
func TestTokenKeys(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	set := func(user uint32, client pb.ClientType, token string) {
		t.Helper()
		if err := s.SetDeviceToken(t.Context(), im.DeviceToken{User: user, Client: client,
			Token: token}); err != nil {
			t.Fatal(err)
		}
	}
	set(7, ios, "phone")
	e.keys(t, map[string]string{"device_7": "ios:phone", "device_phone": "7"})
	set(7, android, "new")
	e.keys(t, map[string]string{"device_7": "android:new", "device_new": "7", "device_phone": ""})
	set(8, android, "new")
	e.keys(t, map[string]string{"device_7": "", "device_8": "android:new", "device_new": "8"})
	set(8, 0, "")
	if n := e.redis.Do("DBSIZE"); n != "0" {
		t.Errorf("%s keys are left, want none: %s", n, e.redis.Do("KEYS *"))
	}
	if err := s.SetGroupShield(t.Context(), 7, 9, true); err != nil {
		t.Fatal(err)
	}
	if v := e.redis.Do("HGET group_set_9 7_1"); v != "1" {
		t.Errorf("shield %q, want 1", v)
	}
	if err := s.SetGroupShield(t.Context(), 7, 9, false); err != nil {
		t.Fatal(err)
	}
	if v := e.redis.Do("HGET group_set_9 7_1"); v != "0" {
		t.Errorf("shield %q, want 0", v)
	}
}

// TestTokenLeftovers reads the states that a crash between two commands, or a C++ server,
// leaves. A token belongs to the user that its own key names, or to nobody.
func TestTokenLeftovers(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	for _, x := range []struct {
		name string
		keys map[string]string
		want []im.DeviceToken // for users 1 to 3
	}{
		{"whole", map[string]string{"device_1": "ios:a", "device_a": "1"},
			[]im.DeviceToken{{User: 1, Client: ios, Token: "a"}}},
		{"taken by 2, crash before it names the token", map[string]string{"device_1": "ios:a",
			"device_a": "2"}, nil},
		{"taken by 2, crash before it is cleared from 1", map[string]string{"device_1": "ios:a",
			"device_2": "ios:a", "device_a": "2"},
			[]im.DeviceToken{{User: 2, Client: ios, Token: "a"}}},
		{"taken by 2, then 2 logged out", map[string]string{"device_1": "ios:a"}, nil},
		{"cleared, crash before the token's key", map[string]string{"device_a": "1"}, nil},
		{"as C++ servers leave it after a logout", map[string]string{"device_1": "ios:",
			"device_a": "''", "device_": "1"}, nil},
		{"another client of theirs", map[string]string{"device_1": "a", "device_a": "1"}, nil},
		{"a token that was a number, and overwrote a user's key",
			map[string]string{"device_1": "ios:2", "device_2": "1"}, nil},
		{"no owner that is a user", map[string]string{"device_1": "ios:a", "device_a": "-1",
			"device_2": "android:b", "device_b": "4294967298"}, nil},
	} {
		e.redis.FlushAll()
		for key, value := range x.keys {
			e.redis.Do("SET " + key + " " + value)
		}
		got, err := s.DeviceTokens(t.Context(), []uint32{1, 2, 3})
		if err != nil || !slices.Equal(got, x.want) {
			t.Errorf("%s: %+v, %v; want %+v", x.name, got, err, x.want)
		}
		// Whatever the state, a token set now is used.
		for _, token := range []im.DeviceToken{{User: 3, Client: ios, Token: "a"},
			{User: 1, Client: android, Token: "b"}} {
			if err := s.SetDeviceToken(t.Context(), token); err != nil {
				t.Errorf("%s: %v", x.name, err)
			}
		}
		got, err = s.DeviceTokens(t.Context(), []uint32{1, 2, 3})
		if want := []im.DeviceToken{{User: 1, Client: android, Token: "b"}, {User: 3, Client: ios,
			Token: "a"}}; err != nil || !slices.Equal(got, want) {
			t.Errorf("%s, and set again: %+v, %v; want %+v", x.name, got, err, want)
		}
		for _, token := range []string{"a", "b", "2"} {
			if err := s.DropDeviceToken(t.Context(), token); err != nil {
				t.Errorf("%s: %v", x.name, err)
			}
		}
		if got, err := s.DeviceTokens(t.Context(), []uint32{1, 2, 3}); err != nil || len(got) != 0 {
			t.Errorf("%s, and dropped: %+v, %v; want none", x.name, got, err)
		}
	}
}

// TestPushWithoutRedis requires an error at once when Redis is unavailable.
func TestPushWithoutRedis(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	e.redis.Stop()
	for name, call := range map[string]func() error{
		"SetDeviceToken": func() error {
			return s.SetDeviceToken(t.Context(),
				im.DeviceToken{User: 1, Client: ios, Token: "a"})
		},
		"clear": func() error {
			return s.SetDeviceToken(t.Context(),
				im.DeviceToken{User: 1})
		},
		"DropDeviceToken": func() error { return s.DropDeviceToken(t.Context(), "a") },
		"DeviceTokens": func() error {
			_, err := s.DeviceTokens(t.Context(),
				[]uint32{1})
			return err
		},
		"SetGroupShield": func() error { return s.SetGroupShield(t.Context(), 1, 2, true) },
		"GroupShields": func() error {
			_, err := s.GroupShields(t.Context(), 2,
				[]uint32{1})
			return err
		},
		"ShieldedGroups": func() error {
			_, err := s.ShieldedGroups(t.Context(), 1,
				[]uint32{2})
			return err
		},
	} {
		if err := call(); err == nil || im.KindOf(err) != im.Unavailable {
			t.Errorf("%s: %v, want one of kind unavailable", name, err)
		}
	}
}

// BenchmarkDeviceTokens reads the tokens of a large group, in which every third member
// has one.
func BenchmarkDeviceTokens(b *testing.B) {
	e := newEnv(b)
	s := e.store(b)
	var all []uint32
	for user := range uint32(3000) {
		all = append(all, user+1)
		if user%3 == 0 {
			if err := s.SetDeviceToken(b.Context(), im.DeviceToken{User: user + 1, Client: ios,
				Token: fmt.Sprintf("%064d", user)}); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if list, err := s.DeviceTokens(b.Context(), all); err != nil || len(list) != 1000 {
			b.Fatal(len(list), err)
		}
	}
}

// BenchmarkSetDeviceToken measures the part of every login of a phone that sets its
// token.
func BenchmarkSetDeviceToken(b *testing.B) {
	e := newEnv(b)
	s := e.store(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.SetDeviceToken(b.Context(), im.DeviceToken{User: 7, Client: ios,
			Token: "phone"}); err != nil {
			b.Fatal(err)
		}
	}
}
