# frozen_string_literal: true

require_relative "swarm_native/version"
require_relative "swarm_native/errors"
require_relative "swarm_native/library"
require_relative "swarm_native/fork_guard"
require_relative "swarm_native/init"
require_relative "swarm_native/pidfd"
require_relative "swarm_native/supervisor"
require_relative "swarm_native/turnstile"
require_relative "swarm_native/kafka"
