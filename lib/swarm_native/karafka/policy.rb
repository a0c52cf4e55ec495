# frozen_string_literal: true

module SwarmNative
  module Karafka
    # Karafka's settings, in milliseconds, as the native supervisor's, in seconds. Read when the swarm starts: users set
    # some after this file was loaded.
    #
    # @api private
    module Policy
      # Karafka's own default, which is a floor for every restart, and no user's choice.
      UNSET_RESTART_TIMEOUT = 5_000
      # How far below its delay a replacement may come: jitter takes a fifth.
      JITTER = 0.8
      private_constant :UNSET_RESTART_TIMEOUT, :JITTER

      class << self
        # @param config [Karafka::App.config]
        # @param settings [Settings]
        # @return [Hash{Symbol => Object}]
        def from(config, settings)
          swarm = config.internal.swarm
          report_timeout = swarm.node_report_timeout / 1000.0
          {
            nodes: config.swarm.nodes, report: :manual, ready: :manual, warmup: false, report_timeout: report_timeout,
            boot_timeout: [report_timeout, 60.0].max, shutdown_timeout: kill_after(config),
            orphan_exit_code: swarm.orphaned_exit_code & 0xff, # as the kernel takes it
            **least_wait(swarm), **settings.to_policy
          }
        end

        # A node has all of `shutdown_timeout`, begins it later than its supervisor, and then needs a while to leave with
        # an exit code of its own.
        # @return [Float] seconds from TERM to KILL
        def kill_after(config)
          leave = forceful_shutdown_wait(config.internal) + 1_000
          (config.shutdown_timeout + [grace, leave].max) / 1000.0
        end

        # @return [Integer] the milliseconds that Karafka's supervisor adds to its nodes' shutdown_timeout
        def grace
          ::Karafka::Swarm::Supervisor.const_get(:SHUTDOWN_GRACE_PERIOD)
        rescue NameError
          15_000
        end

        private

        # A setting since 2.5.9, and 5 s before.
        def forceful_shutdown_wait(internal)
          internal.respond_to?(:forceful_shutdown_wait) ? internal.forceful_shutdown_wait : 5_000
        end

        def least_wait(swarm)
          return {} if swarm.node_restart_timeout == UNSET_RESTART_TIMEOUT

          least = [swarm.node_restart_timeout / 1000.0 / JITTER, 0.001].max
          { backoff_min: least, backoff_max: [least, 30.0].max }
        end
      end
    end
  end
end
