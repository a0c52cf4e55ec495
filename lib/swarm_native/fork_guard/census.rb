# frozen_string_literal: true

module SwarmNative
  module ForkGuard
    # Who is live, for people: takes its time, and is asked only once something is.
    module Census
      # The thread that each handle of librdkafka has.
      MAIN_THREAD = "rdk:main"
      private_constant :MAIN_THREAD

      class << self
        # @return [Array<LiveHandle>]
        def take
          ours = Core.own_handles.map { |fields| own(*fields) }
          named = Rdkafka.live
          ours + named + nameless(ours, named)
        end

        private

        def own(class_name, name, made_at, phase, since)
          LiveHandle.new(class_name: class_name, name: name, made_at: (made_at unless made_at.empty?), phase: phase,
                         since: Time.at(since))
        end

        # Handles that have no Ruby object: only their library and their threads tell of them.
        def nameless(ours, named)
          copies = Core.live_copies
          return [] if copies.empty?

          threads = Core.librdkafka_threads.select { |_, name| name == MAIN_THREAD }.map(&:first) - ruby_threads
          others = threads.size - ours.count { |handle| handle.class_name.start_with?("SwarmNative::Kafka::") }
          count = [others - named.size, named.empty? ? 1 : 0].max
          origin = origin_of(copies, threads, certain: threads.size == count)
          Array.new(count) { |i| LiveHandle.new(class_name: "librdkafka handle that is not ours", origin: origin[i]) }
        end

        def ruby_threads
          ForkGuard.send(:ruby_threads)
        end

        # A thread can be told to belong to a handle only where no other handle could have it.
        def origin_of(copies, threads, certain:)
          files = copies.map { |path| path.empty? ? "the program itself" : path }.uniq.join(" or ")
          all = "of #{files}, one of the threads #{MAIN_THREAD} #{threads.join(', ')}"
          all = "of #{files}" if threads.empty?
          Hash.new { |_, i| certain ? "of #{files}, thread #{MAIN_THREAD} #{threads[i]}" : all }
        end
      end
    end
    private_constant :Census
  end
end
