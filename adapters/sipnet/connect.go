package sipnet

import "context"

// Connect connects to the server beforehand, so that a wrong port, name or certificate
// shows before the first request needs the connection. Over UDP there is nothing to
// connect, and nothing to learn but whether the name is known. An error is what [Client.Do]
// would return.
func (c *Client) Connect(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	if err := c.begin(); err != nil {
		return err
	}
	defer c.busy.Done()
	until, _ := ctx.Deadline()
	if err := c.name.ready(ctx, until, c.life, &c.busy); err != nil {
		return err
	}
	h := c.choose(nil)
	if h == nil || c.cfg.Server.Transport == "udp" {
		return nil
	}
	way, err := c.enter(h)
	if err != nil {
		return err
	}
	defer c.leave(h, way)
	if _, err = way.connect(ctx, nil); err != nil {
		c.judge(ctx, h, nil, err)
	}
	return err
}
