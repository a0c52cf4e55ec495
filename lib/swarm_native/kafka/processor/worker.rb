# frozen_string_literal: true

require_relative "batch"

module SwarmNative
  module Kafka
    class Processor
      # Does jobs: runs the user's block, and says what has come of it.
      # @api private
      class Worker
        # What counts as a failure of the work. Others, such as SystemExit, are for the whole processor.
        FAILURES = [StandardError, ScriptError, NoMemoryError, SystemStackError].freeze

        def initialize(session, settings, single, work)
          @session = session
          @settings = settings
          @single = single
          @work = work
          @dead_letters = session.dead_letters
        end

        # Does a job to its end. Whatever happens, it is finished or failed when this returns.
        def call(job)
          @settled = false
          one_by_one?(job) ? one_by_one(job) : whole(job)
        rescue *FAILURES => e
          failed(job, job.done_until, e)
        rescue Exception => e # rubocop:disable Lint/RescueException -- it is raised where `run` was called
          failed(job, job.done_until, e)
          @session.raise_in_run(e)
        ensure
          # The block has ended its thread; or the session has, and said so.
          unless @settled || @session.ended?
            failed(job, job.done_until, SwarmNative::Error.new("the block has ended its thread"))
          end
        end

        # The message and those before it are done.
        def done(job, message) = @session.done(job, message)

        def revoked?(job) = !@session.wanted?(job)

        def stopping? = @session.ending?

        private

        # The last attempt tries each message by itself, so that only those are given up that fail by themselves.
        def one_by_one?(job)
          @single || (@dead_letters && job.attempt >= @settings.max_attempts)
        end

        def whole(job)
          @work.call(Batch.new(job, job.chunks, self))
          last = job.chunks.last.last
          done(job, last)
          finished(job)
        end

        def one_by_one(job)
          job.chunks.each do |chunk|
            chunk.size.times do |index|
              # What is not done comes again: here after a failure, elsewhere after a revocation.
              return finished(job) unless @session.go_on?(job)

              message = chunk[index]
              next if message.offset < job.done_until

              return unless one(job, message, chunk, index)
            end
          end
          finished(job)
        end

        # @return [Boolean] whether the next one may come
        def one(job, message, chunk, index)
          begin
            @work.call(@single ? message : Batch.new(job, [chunk.slice(index, 1)], self))
          rescue *FAILURES => e
            attempt = !@single || message.offset == job.first_offset ? job.attempt : 1
            return failed(job, message.offset, e, attempt) unless @dead_letters && attempt >= @settings.max_attempts
            return false unless given_up(job, message, e, attempt)
          end
          done(job, message)
          true
        end

        # @return [Boolean] false: the dead letters have not taken it, so it is tried again
        def given_up(job, message, error, attempt)
          @dead_letters.take(message, error, attempt)
          tell_of(job, message.offset, error, "dead_letter", attempt)
          true
        rescue *FAILURES => e
          failed(job, message.offset, e, attempt, "dead_letter_failed")
        end

        def finished(job)
          @settled = true
          @session.finished(job)
        end

        # @return [false]
        def failed(job, from, error, attempt = job.attempt, reason = "job")
          @settled = true
          from = [from, job.done_until].max
          retry_in = @session.failed(job, from)
          tell_of(job, from, error, reason, attempt, retry_in)
          false
        end

        def tell_of(job, offset, error, reason, attempt, retry_in = nil)
          @session.tell(:error, topic: job.lane.topic, partition: job.lane.partition, offset: offset, error: error,
                                reason: reason, attempt: attempt, retry_in: retry_in)
        end
      end
    end
  end
end
