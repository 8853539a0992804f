package sipnet

// TLS says how a connection is secured. Files are in PEM, and read again when they change.
type TLS struct {
	CAFile     string // who may vouch for the server; "" for the system's authorities
	CertFile   string // our own certificate with its chain, for mutual TLS; "" for none
	KeyFile    string // its key
	ServerName string // the name to verify and to ask for (SNI); "" for the target's own
	SkipVerify bool   // accept any certificate: for tests alone
}
