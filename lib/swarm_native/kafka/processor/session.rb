# frozen_string_literal: true

require_relative "dead_letters"
require_relative "lanes"
require_relative "liveness"
require_relative "worker"

module SwarmNative
  module Kafka
    class Processor
      # One run of a processor: the consumer, the threads, and one lock around {Lanes}, which decide.
      #
      # The thread that calls `run` listens: it alone polls, pauses, seeks and resumes. Workers take jobs from the lanes
      # and store offsets. A third thread watches: the node's signals, and whether all get on. What concerns the
      # listener wakes it out of its poll.
      #
      # @api private
      class Session
        # The longest a poll waits when nothing is due; a third of polling_ttl where that is less, since each return is
        # the sign that the listener gets on.
        LONGEST_POLL = 60.0
        # Seconds that the consumer has to close.
        CLOSING = 10.0
        # Seconds after which a stop is seen by who waits for the jobs of a revocation: it may come from a trap handler,
        # which can take no lock to wake him.
        HEED = 0.5

        attr_reader :dead_letters

        def initialize(settings, processor, node, single, work)
          @settings = settings
          @processor = processor
          @node = node
          @lanes = Lanes.new(max_batch: settings.max_batch, max_wait: single ? 0.0 : settings.max_wait.to_f,
                             max_messages: settings.max_messages, max_bytes: settings.max_bytes,
                             backoff: settings.backoff_min.to_f..settings.backoff_max.to_f)
          @dead_letters = DeadLetters.of(settings)
          @lock = Mutex.new
          @work = ConditionVariable.new
          @changed = ConditionVariable.new
          @free = 0
          @ended = false
          @raised = nil
          @single = single
          @block = work
          @workers = []
          @polled_at = now
          @longest_poll = [LONGEST_POLL, (settings.polling_ttl || Float::INFINITY) / 3.0].min
        end

        def run
          begin
            @consumer = Consumer.new(@settings.consumer_config(lag: @processor.heard?(:lag)))
            hear_the_group
            @consumer.subscribe(*@settings.topics)
            hire
            @watch = Thread.new { watch }.tap { |thread| thread.name = "swarm processor" }
            @node&.ready
            listen
          ensure
            wind_up
          end
          raise @raised if @raised
        end

        # From any thread and from a trap handler: something was asked for.
        def wake
          @consumer&.wakeup
        rescue ClosedHandle
          nil
        end

        # Raises this where `run` was called, once the work has ended.
        def raise_in_run(error)
          @raised ||= error
          wake
        end

        # Whether the workers are no longer needed.
        def ended? = @ended

        def ending? = @raised || @processor.ending?

        # Stores the offset after the message, unless the partition is somebody else's.
        # @return [Boolean]
        def done(job, message)
          @lock.synchronize do
            return false unless @lanes.current?(job)
            return true if message.offset < job.done_until

            @consumer.store_offset(message)
            job.done(message.offset + 1, now)
            true
          end
        rescue Kafka::Error, ClosedHandle
          # The group has been quicker than its news, or the processor has had to stop.
          false
        end

        def wanted?(job) = @lock.synchronize { job.lane.state == :open && @lanes.current?(job) }

        # Whether a job is to go on with its next message.
        def go_on?(job) = !ending? && wanted?(job)

        def finished(job)
          accepted = @lock.synchronize { settle { @lanes.finish(job, now) } }
          return unless accepted && job.done_until > job.first_offset

          tell(:consumed, topic: job.lane.topic, partition: job.lane.partition, offset: job.first_offset,
                          last_offset: job.done_until - 1, size: job.size_done, duration: now - job.started_at,
                          attempt: job.attempt)
        end

        # @return [Float, nil] seconds until the next attempt
        def failed(job, from)
          @lock.synchronize { settle { @lanes.fail(job, from, now) } }
        end

        def tell(name, **about)
          @processor.tell(Event.new(name: name, **about))
        end

        # @return [Array<Job>]
        def jobs = @lock.synchronize { @lanes.jobs }

        private

        def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

        # Polls until it is time to end and no job runs, or no time is left.
        def listen
          until over?
            hire
            carry_out(@lock.synchronize { orders })
            room, timeout = @lock.synchronize { [@lanes.room(now), pause_until(@lanes.due_at(now, @free.positive?))] }
            room ? add(fetch(*room, timeout)) : wait_for_room(timeout)
          end
        end

        def orders
          @polled_at = now
          @lanes.quiet(@polled_at) if ending?
          @lanes.orders(@polled_at)
        end

        def over?
          return false unless @raised || @processor.stopping?

          give_up_at
          @lock.synchronize { @lanes.idle? } || now >= @deadline
        end

        # By when the jobs have to end: the time runs from the stop on, whatever the listener did then.
        def give_up_at
          @deadline ||= (@processor.stopped_at || now) + @settings.shutdown_timeout
        end

        def pause_until(due)
          due = [due, @deadline].compact.min
          due ? (due - now).clamp(0.0, @longest_poll) : @longest_poll
        end

        def fetch(messages, bytes, timeout)
          @consumer.poll_batch(messages, timeout, max_bytes: bytes).by_partition
        rescue Kafka::Error => e
          tell(:error, error: e, reason: "poll")
          raise if e.fatal?

          []
        end

        def wait_for_room(timeout)
          @lock.synchronize { @changed.wait(@lock, timeout) if timeout.positive? }
        end

        def add(chunks)
          @lock.synchronize do
            @lanes.add(chunks, now)
            @lanes.ready(now, @free).times { @work.signal }
          end
        end

        # Does what the lanes want of the consumer.
        def carry_out(orders)
          return if orders.none?

          orders.pause.each { |lane| carry_out_one(lane, :paused) { |place| @consumer.pause(place) } }
          orders.seek.each { |lane| go_back(lane) }
          orders.resume.each { |lane| carry_out_one(lane, :resumed) { |place| @consumer.resume(place) } }
        end

        def carry_out_one(lane, what)
          yield(lane.topic => [lane.partition])
          @lock.synchronize { @lanes.public_send(what, lane) }
          tell(what, topic: lane.topic, partition: lane.partition, reason: (reason(lane) if what == :paused))
        rescue Kafka::Error
          # It is about to be taken, and the group's news comes with the next poll.
          @lock.synchronize { @lanes.public_send(what, lane) }
        end

        def reason(lane)
          return "quiet" if @lanes.quiet?

          lane.state == :retrying ? "retry" : "pressure"
        end

        def go_back(lane)
          @consumer.seek({ lane.topic => { lane.partition => lane.seek_to } }, timeout: 2.0)
          @lock.synchronize { @lanes.sought(lane) }
        rescue Kafka::Error
          @lock.synchronize { @lanes.not_sought(lane, now) }
        end

        def hear_the_group
          @consumer.on_assigned { |partitions| assigned(partitions) }
          @consumer.on_revoked { |partitions| revoked(partitions, @settings.revoke_timeout, nil) }
          @consumer.on_lost { |partitions| revoked(partitions, 0, "lost") }
          @consumer.on_error { |error| tell(:error, error: error, reason: error.offsets ? "commit" : "poll") }
          @consumer.on_statistics { |statistics| tell(:lag, lag: Lag.of(statistics)) } if @processor.heard?(:lag)
        end

        def assigned(partitions)
          return if partitions.empty?

          @lock.synchronize { @lanes.assign(partitions) }
          tell(:assigned, partitions: partitions)
          # They may have to be paused.
          wake
        end

        # Until this returns the group waits, so that what has begun can end and be committed.
        def revoked(partitions, timeout, reason)
          late = @lock.synchronize do
            await(@lanes.leave(partitions), now + timeout)
            @lanes.drop(partitions)
          end
          late.each { |job| tell_too_late(job) }
          tell(:revoked, partitions: partitions, reason: reason) unless partitions.empty?
        end

        def await(lanes, until_then)
          while lanes.any?(&:job)
            give_up_at if @processor.stopping?
            left = [until_then, @deadline].compact.min - now
            break unless left.positive?

            @polled_at = now
            @changed.wait(@lock, [left, @longest_poll, HEED].min)
          end
        end

        def tell_too_late(job)
          error = SwarmNative::Error.new("#{job} was still running when the group took the partition; its result is dropped")
          tell(:error, topic: job.lane.topic, partition: job.lane.partition, offset: job.done_until, error: error,
                       reason: "revoked", duration: now - job.started_at)
        end

        # Starts workers, also in place of those whose thread the user's block has ended.
        def hire
          @workers.select!(&:alive?)
          while @workers.size < @settings.concurrency
            @workers << Thread.new { work }.tap { |thread| thread.name = "swarm worker #{@workers.size}" }
          end
        end

        def work
          worker = Worker.new(self, @settings, @single, @block)
          while (job = next_job)
            worker.call(job)
          end
        end

        def next_job
          @lock.synchronize do
            loop do
              return if @ended

              # The listener may not have heard of it yet.
              @lanes.quiet(now) if ending?
              if (job = @lanes.begin(now))
                # What it takes makes room, and the job may take long.
                wake if @lanes.attention?(now)
                return job
              end

              begin
                @free += 1
                # When work is due that nobody has been free for, the listener has not thought of it.
                wake if @lanes.due_at(now, true)
                @work.wait(@lock)
              ensure
                @free -= 1
              end
            end
          end
        end

        # A job has ended: whoever waits for that goes on.
        def settle
          result = yield
          @changed.broadcast
          wake if @lanes.attention?(now) || (ending? && @lanes.idle?)
          result
        end

        # Passes on what the node is told, and looks whether all get on.
        def watch
          liveness = Liveness.new(@settings.polling_ttl, @settings.consuming_ttl)
          loop do
            trouble, due = look(liveness)
            report(trouble) if trouble && trouble != @trouble
            @trouble = trouble
            wait_for_node(trouble ? 1.0 : due && [due - now, 0.01].max)
          end
        end

        def look(liveness)
          polled_at, moved_at = @lock.synchronize { [@polled_at, @lanes.jobs.map(&:moved_at).min] }
          liveness.check(now, polled_at, moved_at)
        end

        def report(trouble)
          code = Liveness::CODES.fetch(trouble)
          words = { 1 => "nothing was polled for #{@settings.polling_ttl} s",
                    2 => "a job has not got on for #{@settings.consuming_ttl} s: #{jobs.min_by(&:moved_at)}" }
          tell(:error, error: SwarmNative::Error.new(words.fetch(code)), reason: trouble)
          @node&.unhealthy(code)
        end

        def wait_for_node(seconds)
          return sleep(*seconds) unless @node

          @processor.stop if @node.stopping?
          return sleep(*seconds) if @processor.stopping?

          @node.wait(seconds)
          @processor.quiet if @node.quiet?
          @processor.stop if @node.stopping?
        end

        def wind_up
          finish_what_runs
          @lock.synchronize do
            @ended = true
            @work.broadcast
          end
          @watch&.kill
          leave
          @dead_letters&.close
        ensure
          # Whoever is in a hurry, or came too late for it: no thread stays.
          (@workers + [@watch]).compact.each(&:kill)
          @consumer&.close(0)
        end

        # After an exception nobody polls any more, but what has begun may end.
        def finish_what_runs
          give_up_at
          late = @lock.synchronize do
            @lanes.quiet(now)
            await_idle
            @lanes.jobs.tap { @lanes.drop(@lanes.partitions) unless @lanes.idle? }
          end
          return if late.empty?

          jobs = late.map { |job| "#{job}, running for #{(now - job.started_at).round(1)} s" }
          error = ForcefulShutdown.new("did not end within #{@settings.shutdown_timeout} s: #{jobs.join("; ")}")
          tell(:error, error: error, reason: "shutdown")
        end

        def await_idle
          until @lanes.idle? || (left = @deadline - now) <= 0
            @changed.wait(@lock, left)
          end
        end

        # Commits what is stored and leaves the group.
        def leave
          @consumer&.close(CLOSING)
        rescue Kafka::Error => e
          tell(:error, error: e, reason: "poll")
        end
      end
      private_constant :Session
    end
  end
end
