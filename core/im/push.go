package im

import "teamtalk/proto/pb"

// CheckDeviceToken says what keeps t from being stored, with kind Invalid: a token longer than MaxDeviceToken, one that is not printable ASCII, one that could be
// taken for a user's id where both are kept side by side (up to ten digits and nothing else; no push service makes such), or a Client that is no
// phone. An empty token, which clears, fits any Client.
func CheckDeviceToken(t DeviceToken) error {
	if t.Token == "" {
		return nil
	}
	if t.Client != pb.ClientType_CLIENT_TYPE_IOS && t.Client != pb.ClientType_CLIENT_TYPE_ANDROID {
		return Errorf(Invalid, "push token for a client of type %d, which is no phone", t.Client)
	}
	if len(t.Token) > MaxDeviceToken {
		return Errorf(Invalid, "push token of %d bytes is longer than %d", len(t.Token), MaxDeviceToken)
	}
	number := len(t.Token) <= 10
	for i := range len(t.Token) {
		c := t.Token[i]
		if c < ' ' || c > '~' {
			return Errorf(Invalid, "push token is not printable ASCII")
		}
		number = number && '0' <= c && c <= '9'
	}
	if number {
		return Errorf(Invalid, "push token is a number")
	}
	return nil
}
