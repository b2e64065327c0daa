package open

import (
	"fmt"

	"teamtalk/core/cert"
	"teamtalk/core/config"
	"teamtalk/sql/redisregistry"
	"teamtalk/sql/store"
)

// Redis returns the five logical Redis instances of the settings, in the store's form. It reads
// the files of their TLS.
func Redis(r config.Redis) (store.Redis, error) {
	var all store.Redis
	var encrypted *cert.Client // all instances share it
	for _, i := range []struct {
		url  config.RedisURL
		dest *store.Instance
	}{
		{r.Unread, &all.Unread}, {r.GroupSet, &all.GroupSet}, {r.Token, &all.Token},
		{r.Sync, &all.Sync},
		{r.GroupMember, &all.GroupMember},
	} {
		var err error
		if *i.dest, err = redisInstance(r, i.url, &encrypted); err != nil {
			return store.Redis{}, err
		}
	}
	return all, nil
}

// redisInstance returns an instance of the settings, in the store's form. It reads the files of
// its TLS into *encrypted, unless they have been read.
func redisInstance(r config.Redis, u config.RedisURL, encrypted **cert.Client) (
	store.Instance, error) {
	t, err := r.Target(u)
	if err != nil {
		return store.Instance{}, fmt.Errorf("redis instance %s: %w", u, err)
	}
	i := store.Instance{
		Addrs: t.Addrs, Cluster: t.Cluster, Username: t.Username, Password: t.Password.Reveal(),
		DB: t.DB, MasterName: t.MasterName, SentinelUsername: t.SentinelUsername,
		SentinelPassword: t.SentinelPassword.Reveal(),
	}
	if !t.TLS {
		return i, nil
	}
	if *encrypted == nil {
		*encrypted, err = cert.LoadClient("redis", r.CA, r.Certificate, r.Key)
	}
	i.TLS = *encrypted
	return i, err
}

// RegistryRedis returns the Redis of the registry. It reads the files of its TLS.
func RegistryRedis(cfg *config.Config) (store.Instance, error) {
	var encrypted *cert.Client
	return redisInstance(cfg.Redis, cfg.Registry.Redis, &encrypted)
}

// WhereaboutsRedis returns the Redis of the whereabouts. It reads the files of its TLS.
func WhereaboutsRedis(cfg *config.Config) (store.Instance, error) {
	var encrypted *cert.Client
	return redisInstance(cfg.Redis, cfg.Redis.Unread, &encrypted)
}

// RegistryOptions returns the options of a registry in Redis that the settings hold.
func RegistryOptions(cfg *config.Config, i store.Instance) redisregistry.Options {
	return redisregistry.Options{Redis: i, Lease: cfg.Registry.Lease, Renew: cfg.Registry.Renew,
		Poll: cfg.Registry.Poll}
}
