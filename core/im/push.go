package im

import "teamtalk/proto/pb"

// CheckDeviceToken returns the reason why t cannot be stored, with kind Invalid. The
// token must be printable ASCII of at most MaxDeviceToken bytes, and Client must be a
// phone. A token of at most ten digits and nothing else is rejected: where tokens and
// user ids are stored side by side it could be taken for an id, and no push service
// issues such tokens. An empty token, which clears the stored one, fits any Client.
func CheckDeviceToken(t DeviceToken) error {
	if t.Token == "" {
		return nil
	}
	if t.Client != pb.ClientType_CLIENT_TYPE_IOS && t.Client != pb.ClientType_CLIENT_TYPE_ANDROID {
		return Errorf(Invalid, "push token for a client of type %d, which is no phone", t.Client)
	}
	if len(t.Token) > MaxDeviceToken {
		return Errorf(Invalid, "push token of %d bytes is longer than %d",
			len(t.Token), MaxDeviceToken)
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
